"""The first administrator of a sidecar that has none: `init`, `serve`, `claim`, as people type them and race."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from langtrain import DeniedError, SidecarError, UnavailableError
from langtrain.auth import RoleManager
from tests import sidecars
from tests.certificates import CLIENT, SIDECAR, STRANGER, Certificates, Pair
from tests.e2e.upstream import echo
from tests.sidecars import Sidecar, guarded
from tests.test_cli import Ran
from tests.waiting import eventually

CREDENTIAL = re.compile(r"lto_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
INIT = ("init", "--config", "sidecar.yaml")


class Scene:
    """A config whose sidecar nobody administers."""

    def __init__(self, directory: Path, certificates: Certificates, upstream: str, workers: int = 1) -> None:
        self.directory = directory
        self.certificates = certificates
        config = guarded(certificates, upstream)
        # Whoever is known may ask what there is; giving and taking is for whom roles let.
        rule = {
            "identities": [CLIENT, STRANGER, SIDECAR],
            "methods": ["/langtrain.v1.PolicyService/**"],
            "permissions": ["roles.read", "grants.read"],
        }
        config["authorization"] = {"policies": True, "rules": [rule]}
        self.config = {**config, "state": {"directory": str(directory / "state")}, "workers": workers}
        sidecars.write(directory / "sidecar.yaml", self.config)

    def init(self, *options: str) -> Ran:
        return Ran(*INIT, *options, directory=self.directory)

    def credential(self, *options: str) -> str:
        ran = self.init(*options)
        assert ran.status == 0, ran.err
        assert CREDENTIAL.fullmatch(ran.out.strip())
        return ran.out.strip()

    def claim(self, running: Sidecar, credential: str, pair: Pair, piped: bool = False) -> Ran:
        (self.directory / "credential").write_text(f"{credential}\n")
        how = () if piped else ("--credential", "credential")
        environment = {
            "LANGTRAIN_ENDPOINT": running.address,
            "LANGTRAIN_CA": str(self.certificates.ca),
            "LANGTRAIN_CERT": str(pair.certificate),
            "LANGTRAIN_KEY": str(pair.key),
        }
        return Ran("claim", *how, directory=self.directory, stdin=f"{credential}\n" if piped else "", **environment)

    def serve(self, *faults: str) -> Any:
        return sidecars.serve(self.config, self.directory, faults=frozenset(faults))

    def manager(self, running: Sidecar, pair: Pair, timeout_s: float = 30.0) -> RoleManager:
        return RoleManager(
            running.address, ca=self.certificates.ca, cert=pair.certificate, key=pair.key, timeout_s=timeout_s
        )


@contextmanager
def scene(tmp_path: Path, certificates: Certificates, workers: int = 1) -> Iterator[Scene]:
    with echo() as (_, upstream):
        yield Scene(tmp_path, certificates, upstream, workers)


def test_from_nobody_to_an_administrator(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, workers=2) as at:
        credential = at.credential()
        key_file = tmp_path / "state" / "store" / "one-time.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        with at.serve() as running, at.manager(running, certificates.client) as alice:
            with pytest.raises(DeniedError):
                alice.create_role("mine", ["models.read"])
            nobody = at.claim(running, credential[:-1] + ("0" if credential[-1] != "0" else "1"), certificates.client)
            assert (nobody.status, nobody.out) == (1, "")
            assert "PERMISSION_DENIED: credential is not valid" in nobody.err
            claimed = at.claim(running, credential, certificates.client, piped=True)
            assert (claimed.status, claimed.err) == (0, "")
            assert f"administrator-{credential[4:16]}" in claimed.out
            assert CLIENT in claimed.out
            other = at.claim(running, credential, certificates.stranger)
            assert (other.status, other.out) == (1, "")
            assert "PERMISSION_DENIED: credential is not valid" in other.err

            eventually(lambda: may_give(alice), "every worker knows it")
            (grant,) = alice.list_grants(role="builtin.admin")
            assert (list(grant.members), list(grant.resources)) == ([CLIENT], ["**"])
            assert not grant.HasField("expires")
            assert grant.reason.startswith(f"claimed by the one-time credential {credential[4:16]}, made at ")

            held = at.init()
            assert (held.status, held.out) == (1, "")
            assert "a sidecar that runs with it has to stop first" in held.err
            with contextlib.suppress(DeniedError):  # the call rests on what it takes back, and may be cut with it
                alice.revoke(grant.grant_id, "tried", allow_lockout=True)
            eventually(lambda: not may_give(alice), "it is taken back")
            piped = at.claim(running, credential, certificates.client, piped=True)
            assert (piped.status, piped.out) == (1, "")
            assert "PERMISSION_DENIED: credential is not valid" in piped.err
            kinds = [event["kind"] for event in running.events()]
            for kind in ("administrator.offered", "administrator.claimed", "administrator.refused", "grant.revoked"):
                assert kind in kinds
            assert [line["principal"] for line in running.logged("administrator_claimed")] == [CLIENT]
            everything = str(running.events()) + running.process.log
        kept = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
        assert credential[17:60] not in everything
        assert credential[17:60].encode() not in kept

        refused = at.init()
        assert (refused.status, refused.out) == (1, "")
        assert "--unsafe-beside-administrators makes one all the same" in refused.err
        second = at.credential("--unsafe-beside-administrators")
        with at.serve() as running:
            assert at.claim(running, second, certificates.stranger).status == 0


def may_give(manager: RoleManager) -> bool:
    try:
        return bool(manager.create_role("mine", ["models.read"]))
    except DeniedError:
        return False


def test_of_those_who_race_while_it_is_killed_one_gets_it(tmp_path: Path, certificates: Certificates) -> None:
    """The services process is killed under three callers, again and again; whoever is told no stays so."""
    everybody = {CLIENT: certificates.client, STRANGER: certificates.stranger, SIDECAR: certificates.sidecar}
    with scene(tmp_path, certificates, workers=2) as at:
        credential = at.credential()
        told: dict[str, list[str]] = {name: [] for name in everybody}
        with at.serve("child_died") as running:
            done = threading.Event()

            def race(name: str, pair: Pair) -> None:
                with at.manager(running, pair) as manager:
                    while not done.is_set() and "refused" not in told[name] and "got it" not in told[name]:
                        try:
                            manager.claim_administrator(credential)
                            told[name].append("got it")
                        except UnavailableError:
                            told[name].append("not known")
                        except SidecarError as error:
                            told[name].append("refused" if error.reason == "CREDENTIAL_INVALID" else str(error))

            racing = [threading.Thread(target=race, args=each) for each in everybody.items()]
            for each in racing:
                each.start()
            for _ in range(3):
                replaced(running)
            for each in racing:
                each.join(120)
            done.set()
            (got,) = [name for name, said in told.items() if "got it" in said]
            assert {said[-1] for name, said in told.items() if name != got} == {"refused"}
            (grant,) = members(at, running, certificates.client)
            assert list(grant.members) == [got]
        with at.serve() as running:
            (grant,) = members(at, running, certificates.client)
            assert list(grant.members) == [got]
            others = [pair for name, pair in everybody.items() if name != got]
            assert [at.claim(running, credential, pair).status for pair in others] == [1, 1]
            assert at.claim(running, credential, everybody[got]).status == 0


def replaced(running: Sidecar) -> None:
    """Kill the services process, and see that there is another."""
    killed = set(running.children("services").values())
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(running.children("services").values()) - killed != set(), "there is another")


def members(at: Scene, running: Sidecar, pair: Pair) -> list[Any]:
    with at.manager(running, pair) as manager:
        return manager.list_grants(role="builtin.admin")


def test_a_token_will_do_and_nobody_will_not(tmp_path: Path, certificates: Certificates) -> None:
    from tests.e2e.test_tokens import now
    from tests.identity.issuing import AUDIENCE, ISSUER, jwk, jwks, token

    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with scene(tmp_path, certificates) as at:
        issuer = {"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}
        tenants = {"claim": "tenant", "allowed": ["acme", "globex"]}
        at.config["listen"]["tls"]["client_certificates"] = "optional"
        at.config["authentication"]["jwt"] = [{**issuer, "tenants": tenants}]
        sidecars.write(tmp_path / "sidecar.yaml", at.config)
        unknown = at.init("--tenant", "initech")
        assert unknown.status == 1
        assert "--tenant: expected one of acme, default, globex, came 'initech'" in unknown.err
        credential = at.credential("--tenant", "acme", "--expires-in", "10m")
        with at.serve() as running:

            def claim(bearer: str | None, pair: Pair | None = None) -> str:
                how: dict[str, Any] = {"token": bearer} if bearer else {}
                if pair is not None:
                    how |= {"cert": pair.certificate, "key": pair.key}
                with RoleManager(running.address, ca=certificates.ca, timeout_s=30.0, **how) as manager:
                    try:
                        return manager.claim_administrator(credential).principal
                    except SidecarError as error:
                        return f"{error.code.name} {error.reason}"

            assert claim(None) == "UNAUTHENTICATED "
            assert claim(None, certificates.client) == "PERMISSION_DENIED CREDENTIAL_INVALID"
            assert claim(token(now(sub="eve", tenant="globex"))) == "PERMISSION_DENIED CREDENTIAL_INVALID"
            assert claim(token(now(sub="*", tenant="acme"))) == "PERMISSION_DENIED CLAIMANT_UNFIT"
            assert claim(token(now(sub="carol", tenant="acme"))) == "user:login/carol"


def test_what_init_demands(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        for options, said in (
            (("--expires-in", "2d"), "--expires-in: expected 60 seconds to a day, came 172800 s"),
            (("--expires-in", "1s"), "--expires-in: expected 60 seconds to a day, came 1 s"),
            (("--tenant", "a/b"), "--tenant: "),
        ):
            ran = at.init(*options)
            assert (ran.status, ran.out) == (1, "")
            assert said in ran.err
        policies = dict(at.config["authorization"], bootstrap_admins=[CLIENT])
        for authorization, said in (
            (policies, "has or has had an administrator"),
            ({**at.config["authorization"], "policies": False}, "authorization.policies: expected true"),
        ):
            sidecars.write(tmp_path / "sidecar.yaml", {**at.config, "authorization": authorization})
            ran = at.init()
            assert (ran.status, ran.out) == (1, "")
            assert said in ran.err
        keys = tmp_path / "keys.json"
        keys.write_text('{"keys": []}')
        issuer = {
            "name": "login", "issuer": "https://login.example.org", "audiences": ["a"], "keys": {"file": str(keys)},
            "roles": {"claim": "groups", "grant": {"ops": "builtin.security_officer"}},
        }  # fmt: skip
        authentication = {**at.config["authentication"], "jwt": [issuer]}
        sidecars.write(tmp_path / "sidecar.yaml", {**at.config, "authentication": authentication})
        ran = at.init()
        assert (ran.status, ran.out) == (1, "")
        assert "tokens of login make administrators of tenant default" in ran.err
