"""What a child may be: role → the module whose `main(birth)` it runs. One line for each."""

from __future__ import annotations

from typing import Final

ROLES: Final = {
    "recorder": "sidecar.audit.process",
    "services": "sidecar.services.process",
    "telemetry": "sidecar.telemetry.process",
    "worker": "sidecar.app",
}
