import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import reference
from sidecar.config.load import build
from tests.config.configs import DIRECTORY, SOUND, faults, load

RICH = """
listen:
  address: 0.0.0.0:1
  tls: {client_ca: ca.pem, crl: crl.pem}
  grace: 1500ms
  limits: {message: 64MB, resets: {rate: 5/minute, burst: 9}, pings: 7/hour}
upstream:
  address: "unix:///a"
  services: [{service: a.B, model_field: [2, 1], methods: [{name: C, unary_request: true}]}]
  protocol: opaque
authentication: {mtls: {trust_domains: [a, {name: b, ca: b.pem}]}}
authorization:
  rules: [{identities: ["spiffe://a/**"], methods: [/**], models: ["*"]}]
  attributes: {"models/fraud-*": {level: 3, regions: [eu, us], open: true, share: 0.5}, "spiffe://b/*": {team: x}}
  metadata: {purpose: x-purpose}
  locations: {eu: [10.0.0.0/8, "2001:db8::/32"]}
interceptors: [{use: ./a.py:B, settings: {c: [1, {d: null}]}}]
"""


def test_the_effective_config_loads_to_the_same() -> None:
    for text in (SOUND, RICH, "listen: {tls: none}"):
        config = load(text)
        again = load(reference.yaml(config))
        assert again == config
        assert again.digest() == config.digest()


@pytest.mark.parametrize("query", ["password=hunter2", "sslpassword=hunter2", "PassWord="])
def test_an_address_of_the_state_holds_no_password(query: str) -> None:
    [fault] = faults(SOUND + f"state: {{url: 'postgresql://sidecar@db/langtrain?{query}'}}")
    assert "came one with a password, withheld" in fault
    assert "hunter2" not in fault


def test_an_address_of_the_state_names_the_file_of_passwords_whatever_its_name() -> None:
    url = "postgresql://sidecar@db/langtrain?passfile=/run/secrets/password"
    assert load(SOUND + f"state: {{url: '{url}'}}").state.url == url


def test_the_effective_config_holds_every_key() -> None:
    effective = load(SOUND).effective()
    assert effective["listen"]["limits"]["idle"] == "1h"
    assert effective["upstream"]["address"] == "127.0.0.1:8001"
    assert json.loads(json.dumps(effective)) == effective


def test_the_digest_is_of_what_is_meant() -> None:
    same = """
authentication: {mtls: {trust_domains: [{name: example.org}]}}
listen: {grace: 30000ms, tls: {client_ca: ./ca.pem}}
"""
    assert load(same).digest() == load(SOUND).digest()
    assert load(SOUND + "unsafe_observe_only: true").digest() != load(SOUND).digest()
    assert len(load(SOUND).digest()) == 64


@given(st.sampled_from(["listen", "upstream", "audit", "workers"]), st.permutations(["state", "telemetry", "upstream"]))
@settings(deadline=None)
def test_the_order_of_keys_is_no_difference(first: str, rest: list[str]) -> None:
    data = load(SOUND).effective()
    keys = dict.fromkeys([first, *rest, *data])
    assert build({key: data[key] for key in keys}, DIRECTORY, {}).digest() == load(SOUND).digest()
