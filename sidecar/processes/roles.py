"""What a child may be: role → the module whose `main(birth)` it runs. One line for each."""

from __future__ import annotations

from typing import Final

ROLES: Final = {
    "recorder": "sidecar.audit.process",
    "services": "sidecar.services.process",
    "telemetry": "sidecar.telemetry.process",
    "worker": "sidecar.app",
}
# Those whose modules the nursery imports, for all its children to share. Not those that bring grpcio, which starts
# threads that a fork would lose, nor what a role imports only where it is asked for (OpenTelemetry's exporter).
NURSED: Final = ("recorder", "telemetry", "worker")
