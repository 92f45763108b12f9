"""testssl.sh, a scanner with ClientHellos of its own, against a running sidecar.

Its protocol checks offer no ALPN, so that the sidecar refuses them whatever their version; the clients that it
simulates are replayed with what they offer, and tell version from protocol.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import sidecars
from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.parts import require

DEADLINE_S = 300
NOBODY = "127.0.0.1:9"  # the model server; no handshake gets so far

# What a scan tells of its own ClientHellos. TLS 1.3 is refused there for want of ALPN.
PROTOCOLS = {
    "SSLv2": "not offered",
    "SSLv3": "not offered",
    "TLS1": "not offered",
    "TLS1_1": "not offered",
    "TLS1_2": "not offered",
    "TLS1_3": "not offered",
    "NPN": "not offered",
    "ALPN_HTTP2": "h2",
}
# Simulated clients by what they offer.
H2_AND_TLS_1_3 = ("chrome_101_win10", "firefox_100_win10", "safari_154_osx_1231", "android_X", "go_1178")
H2_WITHOUT_TLS_1_3 = ("android_70", "edge_15_win10", "ie_11_win10")
TLS_1_3_WITHOUT_H2 = ("android_12", "java1703", "openssl_303", "thunderbird_91_9")


@pytest.fixture(scope="module")
def findings(
    certificates: Certificates, start_sidecar: StartSidecar, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What a scan of the sidecar finds, by id."""
    require(shutil.which("testssl") is not None, "testssl is missing: apt-get install testssl.sh")
    file = tmp_path_factory.mktemp("testssl") / "findings.json"
    with start_sidecar(sidecars.guarded(certificates, NOBODY)) as sidecar:
        scan(sidecar.address, file)
    # Once it has stopped, so that the counts of folded events are written too.
    reasons = {event["reason"] for event in sidecar.events() if event["kind"] == "connection.refused"}
    assert {"tls.version", "tls.no_alpn", "tls.no_certificate"} <= reasons
    return {finding["id"]: finding["finding"] for finding in json.loads(file.read_text("utf-8"))}


def scan(address: str, file: Path) -> None:
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"]
    command += ["--protocols", "--client-simulation", "--jsonfile", str(file), address]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False)


@pytest.mark.slow
def test_nothing_before_tls_1_3_and_nothing_without_h2_is_offered(findings: dict[str, str]) -> None:
    assert {name: findings[name] for name in PROTOCOLS} == PROTOCOLS


@pytest.mark.slow
def test_a_simulated_client_gets_tls_1_3_and_h2_or_no_connection(findings: dict[str, str]) -> None:
    prefix = "clientsimulation-"
    found = {
        name.removeprefix(prefix): said.split(" ")[0] for name, said in findings.items() if name.startswith(prefix)
    }
    assert len(found) > 30
    assert set(found.values()) == {"TLSv1.3", "No"}  # "No connection"
    assert [name for name in H2_AND_TLS_1_3 if found[name] != "TLSv1.3"] == []
    assert [name for name in (*H2_WITHOUT_TLS_1_3, *TLS_1_3_WITHOUT_H2) if found[name] != "No"] == []
