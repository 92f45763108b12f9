"""What the sections of a config are made of: their base, file paths, lists, bounds, patterns, URLs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sidecar.config.faults import expected, visible
from sidecar.internal.urls import fetchable

T = TypeVar("T")


class Section(BaseModel):
    """A mapping in the config: frozen, and a key that it does not know is a fault."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False
    )


def section_or_defaults(value: Any) -> Any:
    """A section whose every line is commented out reads as nothing, and means its defaults."""
    return {} if value is None else value


def written(value: Any) -> Any:
    """A default as a config file would spell it; it is validated like any other input."""
    return value


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Many: TypeAlias = Annotated[tuple[T, ...], BeforeValidator(_listed)]
OneOrMore: TypeAlias = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_listed)]


@dataclass(frozen=True, slots=True)
class Spelt:
    """A short form that a section may be written in, for the JSON Schema; its validator is the field's own."""

    short: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = handler(core)
        choices = [choice for choice in whole.get("anyOf", [whole]) if choice.get("type") != "null"]
        return {"anyOf": [dict(self.short), *choices]}


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Within:
    """A quantity from low to high, both included, in the field's own unit type."""

    low: _Ordered
    high: _Ordered

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any) -> Any:
            if value < self.low or self.high < value:
                raise expected(f"a value {self}", came=f"'{value}'")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "x-range": str(self)}


FILE_EXPECTED = "a file path"


def file_path(value: Any, info: ValidationInfo) -> Path:
    """An absolute path; a relative one starts at the config file's directory, `info.context["directory"]`."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value or len(value) > 4096 or not value.isprintable():
        raise expected(FILE_EXPECTED)
    directory = info.context["directory"] if info.context else Path.cwd()
    return Path(os.path.normpath(directory / value))


FilePath: TypeAlias = Annotated[
    Path,
    PlainValidator(file_path),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "title": "file path", "minLength": 1}),
]


def _matching(pattern: str, wanted: str, title: str, hint: str = "") -> Any:
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise expected(wanted, hint=hint)
        return value

    return [PlainValidator(check), WithJsonSchema({"type": "string", "title": title, "pattern": f"^({pattern})$"})]


TRUST_DOMAIN = r"[a-z0-9][a-z0-9._-]{0,254}"  # SPIFFE-ID §2.1
_domain = _matching(TRUST_DOMAIN, 'a trust domain: lower-case letters, digits, ".", "-" or "_"', "trust domain")
TrustDomainName: TypeAlias = Annotated[str, _domain[0], _domain[1]]

_SPIFFE = rf"(?=.{{1,2048}}$)spiffe://{TRUST_DOMAIN}(/[A-Za-z0-9._*-]+)+"  # SPIFFE-ID §2.3; X509-SVID §5.2: a path
_DNS = r"dns:[a-z0-9*]([a-z0-9.*_-]{0,252})"
_CN = r"cn:[^\x00-\x1f\x7f-\x9f]{1,255}"
_USER = r"user:[a-z0-9*][a-z0-9_*-]{0,62}/[^\x00-\x1f\x7f-\x9f]{1,255}"
_KEY = r"key:[0-9A-Za-z*]{1,12}"
_identity = _matching(
    rf"{_SPIFFE}|{_DNS}|{_CN}|{_USER}|{_KEY}",
    'an identity typed by its form: "spiffe://domain/path", "dns:name" in lower case, "cn:name", "user:issuer/subject" '
    'or "key:id"',
    "identity pattern",
)
IdentityPattern: TypeAlias = Annotated[str, _identity[0], _identity[1]]

_resource = r"[a-z][a-z0-9_]*/(?=[^/])[^\x00-\x1f\x7f-\x9f]{1,512}"
_named = _matching(
    rf"{_resource}|{_SPIFFE}|{_DNS}|{_CN}|{_USER}|{_KEY}",
    'a pattern of resources such as "models/fraud-*", or of identities such as "spiffe://domain/path"',
    "resource or identity pattern",
)
ResourceOrIdentityPattern: TypeAlias = Annotated[str, _named[0], _named[1]]

_attribute = _matching(
    r"[A-Za-z_][A-Za-z0-9_]{0,62}", 'an attribute\'s name: letters, digits or "_", no digit first', "attribute"
)
AttributeName: TypeAlias = Annotated[str, _attribute[0], _attribute[1]]

_header = _matching(
    r"[a-z0-9_.-]{1,128}(?<!-bin)", "a metadata name in lower case, without -bin at its end", "metadata"
)
MetadataName: TypeAlias = Annotated[str, _header[0], _header[1]]

NETWORK_EXPECTED = "a network such as 10.0.0.0/8 or 2001:db8::/32"


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or len(value) > 64:
        raise expected(NETWORK_EXPECTED)
    try:
        return ip_network(value)
    except ValueError:
        raise expected(NETWORK_EXPECTED) from None


Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "title": "network"}),
]

ATTRIBUTE_EXPECTED = "a text, a number, true or false, or a list of texts"
MOST_VALUES = 256  # of a list, as conditions take it
LONGEST_VALUE = 4096


def _attribute_value(value: Any) -> AttributeValue:
    values = value if isinstance(value, list | tuple) else [value]
    kinds = (str,) if isinstance(value, list | tuple) else (str, int, float, bool)
    if len(values) > MOST_VALUES or not all(isinstance(each, kinds) for each in values):
        raise expected(ATTRIBUTE_EXPECTED)
    for each in values:
        if isinstance(each, str) and len(each) > LONGEST_VALUE:
            raise expected(f"texts of {LONGEST_VALUE} characters at most")
        if (isinstance(each, int) and not -(1 << 63) <= each < 1 << 63) or (
            isinstance(each, float) and not math.isfinite(each)
        ):
            raise expected("a finite number of 64 bits at most")
    return tuple(values) if isinstance(value, list | tuple) else value


AttributeValue: TypeAlias = str | int | float | bool | tuple[str, ...]
Attribute: TypeAlias = Annotated[
    AttributeValue,
    PlainValidator(_attribute_value),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
    WithJsonSchema(
        {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": {"type": "string"}}]}
    ),
]

_method = _matching(
    r"/[A-Za-z0-9_.*]+/[A-Za-z0-9_*]+|/[A-Za-z0-9_.*]*\*\*[A-Za-z0-9_.*]*",
    'a method pattern such as "/package.Service/Method", "/package.Service/*" or "/**"',
    "method pattern",
)
MethodPattern: TypeAlias = Annotated[str, _method[0], _method[1]]

_PERMISSION = r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+"
_permission = _matching(_PERMISSION, 'a permission such as "models.inference"', "permission")
PermissionName: TypeAlias = Annotated[str, _permission[0], _permission[1]]

_permissions = _matching(
    rf"{_PERMISSION}|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.\*|\*",
    'a permission such as "models.inference", "models.*" for all below, or "*" for all',
    "permission pattern",
)
PermissionPattern: TypeAlias = Annotated[str, _permissions[0], _permissions[1]]

_name = _matching(r"[^\x00-\x1f\x7f-\x9f]{1,255}", "a text of 1 to 255 printable characters", "text")
Name: TypeAlias = Annotated[str, _name[0], _name[1]]

_service = _matching(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", 'a gRPC service name such as "package.Service"', "service"
)
ServiceName: TypeAlias = Annotated[str, _service[0], _service[1]]

_rpc = _matching(r"[A-Za-z_][A-Za-z0-9_]*", 'a gRPC method name such as "Infer", without its service', "method")
MethodName: TypeAlias = Annotated[str, _rpc[0], _rpc[1]]

_title = _matching(r"[a-z0-9][a-z0-9_-]{0,62}", 'a short name: lower-case letters, digits, "-" or "_"', "short name")
Title: TypeAlias = Annotated[str, _title[0], _title[1]]

# RFC 7519 4.1.1: a StringOrURI, compared as it stands.
_issuer = _matching(
    r"[\x21-\x7e]{1,1024}", "an issuer as its tokens spell it, such as https://login.example.org", "issuer"
)
IssuerUrl: TypeAlias = Annotated[str, _issuer[0], _issuer[1]]

_origin = _matching(
    r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:[1-9][0-9]{0,4})?",
    "an origin such as https://models.example.org:8443, with no path",
    "origin",
)
Origin: TypeAlias = Annotated[str, _origin[0], _origin[1]]

KEYS_URL_EXPECTED = "an https URL, or an http URL of this host such as http://127.0.0.1:8080/keys"


def _keys_url(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 2048 or not fetchable(value):
        raise expected(KEYS_URL_EXPECTED, came="another, withheld" if isinstance(value, str) and "@" in value else "")
    return value


KeysUrl: TypeAlias = Annotated[
    str, PlainValidator(_keys_url), WithJsonSchema({"type": "string", "title": "URL", "format": "uri"})
]

STATE_URL_EXPECTED = '"sqlite", or a postgresql:// URL without a password, such as postgresql://sidecar@db/langtrain'


def _state_url(value: Any) -> str:
    if value == "sqlite":
        return value  # type: ignore[no-any-return]
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > 2048:
        raise expected(STATE_URL_EXPECTED)
    try:
        parts = urlsplit(value)
        # libpq's: password, sslpassword. Not the name of a file in which one is.
        named = any(name.lower().endswith("password") for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        password = parts.password is not None or named
    except ValueError:
        raise expected(STATE_URL_EXPECTED, came="another, withheld") from None
    if password:
        raise expected(STATE_URL_EXPECTED, came="one with a password, withheld", hint="set passfile= in its query")
    if parts.scheme != "postgresql":
        raise expected(STATE_URL_EXPECTED)
    return value


StateUrl: TypeAlias = Annotated[
    str, PlainValidator(_state_url), WithJsonSchema({"type": "string", "title": "sqlite or URL"})
]

CLASS = re.compile(r"([^\x00-\x1f\x7f-\x9f]+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*", re.ASCII)
CLASS_EXPECTED = 'a class, as "./path/file.py:Class" or "package.module:Class"'


def _class(value: Any, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not CLASS.fullmatch(value):
        raise expected(CLASS_EXPECTED)
    module, _, name = value.rpartition(":")
    return f"{file_path(module, info)}:{name}" if module.endswith(".py") else value


ClassReference: TypeAlias = Annotated[
    str,
    PlainValidator(_class),
    WithJsonSchema({"type": "string", "title": "class reference", "pattern": f"^{CLASS.pattern}$"}),
]

URL_EXPECTED = 'a URL such as "http://127.0.0.1:4317", of http or https, with a port and nothing else'


def _url(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise expected(URL_EXPECTED)
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        fine = False
    if not fine:
        raise expected(URL_EXPECTED)
    if "@" in parts.netloc or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise expected(URL_EXPECTED, came="one with credentials, a path or a query, withheld")
    return value


Url: TypeAlias = Annotated[
    str, PlainValidator(_url), WithJsonSchema({"type": "string", "title": "URL", "format": "uri"})
]


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Each once: what stands twice is most likely meant to be something else."""
    for number, value in enumerate(values):
        if value in values[:number]:
            raise expected("each entry once", came=f"'{visible(str(value))}' twice")
    return values


Distinct = AfterValidator(distinct)
