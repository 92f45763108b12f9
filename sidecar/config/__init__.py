"""Configuration: one YAML file and the environment become one frozen `Config`, once, at the edge.

ConfigError (FAILED_PRECONDITION) carries every fault, each with its key path, what was expected and what came.
"""

from sidecar.config.addresses import Address, TcpAddress, UnixAddress
from sidecar.config.faults import ConfigError, Fault
from sidecar.config.load import Loader, load, parse
from sidecar.config.model import Config
from sidecar.config.units import Duration, Rate, Size

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "Duration",
    "Fault",
    "Loader",
    "Rate",
    "Size",
    "TcpAddress",
    "UnixAddress",
    "load",
    "parse",
]
