"""The `interceptors.access.Access` of a worker: what it knows of roles and policies, asked about calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, Generic, TypeAlias, TypeVar

from interceptors.access import About
from interceptors.bounded import Bounded
from interceptors.contract import Call, ModelName
from interceptors.facts import Attribute, Principal
from sidecar.policy import names
from sidecar.policy.index import ByPattern
from sidecar.policy.known import Known
from sidecar.policy.model import NOTHING, Attributes, Decision, Value

Network: TypeAlias = IPv4Network | IPv6Network
V = TypeVar("V")

MOST_NAMED: Final = 4096  # models, callers and sources, each, of which something is remembered
REQUEST: Final = frozenset(("method", "model", "version", "size"))  # attributes that every request may have


@dataclass(frozen=True, slots=True)
class Given:
    """What the config says for conditions to ask for.

    resources: by pattern, relative to each tenant or in full.  identities: by pattern of theirs.  Of several that match
    the last has the say.  metadata: by attribute of a request, the header that has it.  locations: by name, networks.
    """

    resources: tuple[tuple[str, Mapping[str, Value]], ...] = ()
    identities: tuple[tuple[str, Mapping[str, Attribute]], ...] = ()
    metadata: tuple[tuple[str, bytes], ...] = ()
    locations: tuple[tuple[str, Network], ...] = ()


class PolicyAccess:
    """Used on the event loop's thread. given: what the config says.  max_staleness_s: of `known`."""

    def __init__(self, known: Known, given: Given, max_staleness_s: float) -> None:
        self._known = known
        self._given = given
        self._max_staleness_s = max_staleness_s
        self._resources = _Matching(given.resources)
        self._identities = _Matching(given.identities) if given.identities else None
        self._metadata = dict(given.metadata)
        self._named: Bounded[tuple[str, str, str, bool], tuple[str, Mapping[str, Value]]] = Bounded(MOST_NAMED)
        self._principals: Bounded[int, tuple[Principal, Principal]] = Bounded(MOST_NAMED)
        self._sources: Bounded[str, Attributes] = Bounded(MOST_NAMED)

    @property
    def certain(self) -> bool:
        """Whether what is known is known to be so."""
        return not self._known.stale(self._max_staleness_s)

    def begin(self, principal: Principal, permission: str, call: Call, granted: bool) -> Decision:
        """As the port's."""
        doubt = self._known.doubt(principal.tenant, self._max_staleness_s)
        if doubt:
            return Decision(False, doubt)
        decision = self._known.engine.begin(
            self._principal(principal), permission, self._surroundings(call), call.now, granted
        )  # fmt: skip
        if decision.until < self._known.due:
            self._known.due = decision.until
        return decision

    def decide(self, principal: Principal, permission: str, about: About, call: Call, granted: bool) -> Decision:
        """As the port's."""
        doubt = self._known.doubt(principal.tenant, self._max_staleness_s)
        if doubt:
            return Decision(False, doubt)
        resource, said = self._resource(principal.tenant, about.model)
        attributes = Attributes(said, Request(call, about, self._metadata), self._surroundings(call).environment)
        decision = self._known.engine.decide(
            self._principal(principal), permission, resource, attributes, call.now, granted
        )  # fmt: skip
        if decision.until < self._known.due:
            self._known.due = decision.until
        return decision

    def like(self, other: PolicyAccess | None) -> bool:
        """Whether the other decides in the same way."""
        return other is not None and (self._known, self._given, self._max_staleness_s) == (
            other._known, other._given, other._max_staleness_s,
        )  # fmt: skip

    def _resource(self, tenant: str, model: ModelName | None) -> tuple[str, Mapping[str, Value]]:
        """Its name, and always the same object of attributes while that is remembered."""
        key = (tenant, "", "", False) if model is None else (tenant, model.name, model.version, True)
        known = self._named.get(key)
        if known is None:
            known = self._named.keep(key, self._told(tenant, model))
        return known

    def _told(self, tenant: str, model: ModelName | None) -> tuple[str, Mapping[str, Value]]:
        full = f"tenants/{tenant}"
        if model is None:
            return full, NOTHING
        short = f"models/{names.segment(model.name)}"
        lineage = [short]
        if model.version:
            lineage.insert(0, f"{short}/versions/{names.segment(model.version)}")
        return f"{full}/{lineage[0]}", self._resources.of(*lineage, *(f"{full}/{each}" for each in lineage)) or NOTHING

    def _principal(self, principal: Principal) -> Principal:
        """With what the config says of who has its name."""
        if self._identities is None:
            return principal
        known = self._principals.get(id(principal))
        if known is None or known[0] is not principal:
            said = self._identities.of(principal.name)
            told = principal
            if said:
                attributes: dict[str, Attribute] = {**dict(principal.attributes), **said}
                told = Principal(
                    principal.kind, principal.name, principal.tenant, principal.roles, tuple(attributes.items())
                )  # fmt: skip
            known = self._principals.keep(id(principal), (principal, told))
        return known[1]

    def _surroundings(self, call: Call) -> Attributes:
        """All that is known before there is a message."""
        source = call.peer.source
        known = self._sources.get(source)
        if known is None:
            known = self._sources.keep(source, Attributes(environment=self._environment(source)))
        return known

    def _environment(self, source: str) -> Mapping[str, Value]:
        """Of several networks that hold an address the smallest says where it is."""
        told: dict[str, Value] = {"source": source}
        try:
            address = ip_address(source)
        except ValueError:
            return told  # a Unix socket's
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        holding = [(network.prefixlen, name) for name, network in self._given.locations if address in network]
        if holding:
            told["location"] = max(holding)[1]
        return told


class Request(Mapping[str, Value]):
    """Attributes of a request, found when a condition asks. metadata: by attribute, its header."""

    __slots__ = ("_about", "_call", "_metadata")

    def __init__(self, call: Call, about: About, metadata: Mapping[str, bytes]) -> None:
        self._call = call
        self._about = about
        self._metadata = metadata

    def __getitem__(self, name: str) -> Value:
        model = self._about.model
        if name == "method":
            return self._call.method.path
        if name == "size":
            return self._about.size
        if name == "model" and model is not None:
            return model.name
        if name == "version" and model is not None:
            return model.version
        values = self._call.headers.all(self._metadata[name])
        if len(values) != 1:  # of two, nobody knows which one counts
            raise KeyError(name)
        return values[0].decode("ascii")

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return (name for name in (*REQUEST, *self._metadata) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Matching(Generic[V]):
    """What the config says of names, by patterns."""

    def __init__(self, said: tuple[tuple[str, Mapping[str, V]], ...]) -> None:
        self._index: ByPattern[tuple[int, Mapping[str, V]]] = ByPattern()
        for number, (pattern, attributes) in enumerate(said):
            self._index.add((pattern,), (number, attributes))

    def of(self, *spelt: str) -> Mapping[str, V]:
        """spelt: all ways to spell a name, and those that it is below."""
        found = sorted(self._index.find(spelt), key=lambda pair: pair[0])
        return {name: value for _, attributes in found for name, value in attributes.items()}
