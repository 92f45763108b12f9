"""The examples of deployment say what they mean: their files parse, their configs are sound, their times fit."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sidecar.config.load import load, parse
from sidecar.config.model import Config
from tests.parts import require
from tests.processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCUMENTS: dict[str, tuple[str, ...]] = {  # kind → what its specification must have
    "ConfigMap": ("data",),
    "Deployment": ("spec.selector.matchLabels", "spec.template.metadata.labels", "spec.template.spec.containers"),
    "Service": ("spec.selector", "spec.ports"),
}


def kubernetes() -> dict[str, Any]:
    documents = YAML(typ="safe").load_all(DEPLOY / "kubernetes" / "sidecar.yaml")
    return {document["kind"]: document for document in documents}


def at(document: Any, path: str) -> Any:
    for step in path.split("."):
        document = document[step]
    return document


def configs() -> dict[str, Config]:
    text = kubernetes()["ConfigMap"]["data"]["sidecar.yaml"]
    return {
        "compose": load(DEPLOY / "compose" / "config" / "sidecar.yaml", {}),
        "kubernetes": parse(text, Path("/etc/langtrain-sidecar"), {}),
    }


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_the_config_is_sound_and_safe(name: str) -> None:
    config = configs()[name]
    assert config.warnings() == ()
    assert all(address.loopback for address in config.upstream.address)
    assert str(config.state.directory) == "/var/lib/langtrain-sidecar"


def test_kubernetes_documents_have_what_their_kind_needs() -> None:
    found = kubernetes()
    assert found.keys() == DOCUMENTS.keys()
    for kind, document in found.items():
        assert document["apiVersion"] in ("v1", "apps/v1")
        assert document["metadata"]["name"]
        for path in DOCUMENTS[kind]:
            assert at(document, path), f"{kind}: {path}"


def test_kubernetes_parts_fit_together() -> None:
    found = kubernetes()
    pod = at(found["Deployment"], "spec.template")
    assert at(found["Deployment"], "spec.selector.matchLabels") == pod["metadata"]["labels"]
    assert at(found["Service"], "spec.selector") == pod["metadata"]["labels"]
    sidecar = pod["spec"]["containers"][0]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == volumes
    config = configs()["kubernetes"]
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports == {"grpc": config.listen.address.port, "probes": config.probes.address.port}  # type: ignore[union-attr]
    probed = {sidecar[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert probed == {"/readyz", "/livez"}


def test_in_kubernetes_the_model_server_outlives_the_sidecar() -> None:
    spec = at(kubernetes()["Deployment"], "spec.template.spec")
    assert [container["name"] for container in spec["containers"]] == ["sidecar"]
    assert [(container["name"], container["restartPolicy"]) for container in spec["initContainers"]] == [
        ("model", "Always")
    ]


def test_every_stop_leaves_more_than_the_grace() -> None:
    compose = YAML(typ="safe").load(DEPLOY / "compose" / "compose.yaml")
    unit = read_unit()
    stops = {
        "compose": float(compose["services"]["sidecar"]["stop_grace_period"].removesuffix("s")),
        "kubernetes": float(at(kubernetes()["Deployment"], "spec.template.spec.terminationGracePeriodSeconds")),
        "systemd": float(unit["Service"]["TimeoutStopSec"].removesuffix("s")),
    }
    graces = {name: float(config.listen.grace) for name, config in configs().items()}
    (sidecar,) = at(kubernetes()["Deployment"], "spec.template.spec.containers")
    waits = {"kubernetes": float(at(sidecar, "lifecycle.preStop.sleep.seconds"))}
    # 5 s until a worker that does not end is killed, and 5 s for the recorder after it.
    assert all(stop >= waits.get(name, 0.0) + graces.get(name, 30.0) + 10.0 for name, stop in stops.items())


def test_in_compose_the_model_server_shares_the_sidecars_network() -> None:
    services = YAML(typ="safe").load(DEPLOY / "compose" / "compose.yaml")["services"]
    assert services["model"]["network_mode"] == "service:sidecar"
    assert "ports" not in services["model"]


def read_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / "langtrain-sidecar.service")
    return unit


def test_systemd_ends_the_supervisor_and_lets_it_end_the_rest() -> None:
    service = read_unit()["Service"]
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert service["ExecReload"].endswith("-HUP $MAINPID")


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    # Its programs are not installed here: anything that can be run stands in for them.
    text = (DEPLOY / "systemd" / "langtrain-sidecar.service").read_text()
    for program in ("langtrain-sidecar", "python"):
        text = text.replace(f"/opt/langtrain-sidecar/bin/{program}", "/bin/true")
    unit = tmp_path / "langtrain-sidecar.service"
    unit.write_text(text)
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert [line for line in said.stderr.splitlines() if unit.name in line] == []
    assert said.returncode == 0, said.stderr
