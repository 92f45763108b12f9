"""`langtrain-sidecar check`: what is wrong with a config and the host around it, before anything is served."""

from sidecar.check.offline import run
from sidecar.check.report import Finding, Report

__all__ = ["Finding", "Report", "run"]
