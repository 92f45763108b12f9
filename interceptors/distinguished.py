"""Distinguished names of X.500, such as certificates' issuers: as people write them, and in the one spelling in which
two are compared.

What is written one way by one program and another way by the next is one name here: names of attributes, the order of
the parts, blanks, escapes and quotes; and, as RFC 5280 7.1 has it, letters' case and runs of blanks.
Source: RFC 4514 (strings), RFC 4518 2 (comparison).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

# Relative names in their order, each of one or more attributes: type, dotted, and value.
Name: TypeAlias = Sequence[Sequence[tuple[str, str]]]

# RFC 4519, RFC 5280 A.1, and what OpenSSL, Java and Windows call the same.
TYPES: Final = {
    "CN": "2.5.4.3", "SN": "2.5.4.4", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8",
    "STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11", "TITLE": "2.5.4.12", "BUSINESSCATEGORY": "2.5.4.15",
    "POSTALCODE": "2.5.4.17", "GN": "2.5.4.42", "INITIALS": "2.5.4.43", "GENERATIONQUALIFIER": "2.5.4.44",
    "DNQUALIFIER": "2.5.4.46", "PSEUDONYM": "2.5.4.65", "ORGANIZATIONIDENTIFIER": "2.5.4.97",
    "UID": "0.9.2342.19200300.100.1.1", "DC": "0.9.2342.19200300.100.1.25", "EMAILADDRESS": "1.2.840.113549.1.9.1",
    "JURISDICTIONL": "1.3.6.1.4.1.311.60.2.1.1", "JURISDICTIONST": "1.3.6.1.4.1.311.60.2.1.2",
    "JURISDICTIONC": "1.3.6.1.4.1.311.60.2.1.3",
}  # fmt: skip
ALIASES: Final = {
    "COMMONNAME": "CN", "SURNAME": "SN", "COUNTRYNAME": "C", "LOCALITYNAME": "L", "STATEORPROVINCENAME": "ST",
    "S": "ST", "STREETADDRESS": "STREET", "ORGANIZATIONNAME": "O", "ORGANIZATIONALUNITNAME": "OU", "T": "TITLE",
    "GIVENNAME": "GN", "USERID": "UID", "DOMAINCOMPONENT": "DC", "E": "EMAILADDRESS", "EMAIL": "EMAILADDRESS",
}  # fmt: skip
_SHORT: Final = {dotted: name for name, dotted in TYPES.items()}
_TYPE: Final = re.compile(r"(?:OID\.)?([0-2](?:\.(?:0|[1-9][0-9]*))+)|[A-Z][A-Z0-9-]*", re.IGNORECASE)
_SLASH: Final = re.compile(r"/(?=(?:[A-Za-z][A-Za-z0-9-]*|[0-9][0-9.]*)=)")
_BYTE: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}")
SPECIAL: Final = frozenset(' "#+,;<>=\\')
SEPARATORS: Final = frozenset(",;+")
SHOWN: Final = 60  # characters of what came that an error repeats


class DistinguishedNameError(ValueError):
    """A text that is no distinguished name, or of which nobody can be sure."""


def canonical(name: Name) -> str:
    """The spelling in which names compare: "CN=example ca,O=example".

    Programs write the parts in the certificate's order or, as RFC 4514, in the other. Of both the lesser stands here.
    """
    parts = ["+".join(sorted(_spelt(kind, value) for kind, value in relative)) for relative in name]
    return min(",".join(parts), ",".join(reversed(parts)))


def parse(text: str) -> Name:
    """Raises DistinguishedNameError. "CN=Example CA,O=Example", "O = Example, CN = Example CA", "/O=Example/CN=…"."""
    said = text.rstrip("\r\n").lstrip()  # a blank at the end may be escaped
    name = _slashed(said) if said.startswith("/") else _separated(said)
    if not name:
        raise DistinguishedNameError("expected a name, came an empty text")
    return name


def _spelt(kind: str, value: str) -> str:
    """RFC 4518 2.2 to 2.6, as far as names of CAs have need of it."""
    folded = value
    for _ in range(2):  # so that what is folded stays as it is when it is folded again
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
    folded = " ".join(folded.split())
    escaped = "".join(f"\\{each}" if each in SPECIAL and each != " " else each for each in folded)
    return f"{_SHORT.get(kind, kind)}={escaped}"


def _slashed(text: str) -> Name:
    """As OpenSSL's oldest form has it, in which values that have a slash are told by what follows it."""
    name = []
    for part in _SLASH.split(text):
        if not part:
            continue
        kind, equals, value = part.partition("=")
        if not equals or part.startswith("/"):
            raise DistinguishedNameError(f"expected /TYPE=VALUE, came {part[:SHOWN]!r}")
        if "\\" in _BYTE.sub("", value):
            raise DistinguishedNameError(f"expected \\x and two hex digits behind a \\, came {value[:SHOWN]!r}")
        pieces = _BYTE.split(value)  # texts, and between them two hex digits each
        octets = b"".join(
            bytes.fromhex(piece) if at % 2 else piece.encode("utf-8", "surrogatepass")
            for at, piece in enumerate(pieces)
        )
        name.append([(_type(kind), _value(_decoded(octets)))])
    return name


def _separated(text: str) -> Name:
    """RFC 4514 3, with blanks around separators, quoted values (RFC 2253 4), and ";" for ","."""
    name: list[list[tuple[str, str]]] = []
    at, together = 0, False
    while at < len(text):
        kind, equals, _ = text[at:].partition("=")
        if not equals:
            raise DistinguishedNameError(
                f"expected TYPE=VALUE, came {text[at:][:SHOWN]!r}; a comma within a value is written \\,"
            )
        value, end = _read(text, at + len(kind) + 1)
        attribute = _type(kind), _value(value)
        if together:
            name[-1].append(attribute)
        else:
            name.append([attribute])
        together = text[end : end + 1] == "+"
        at = end + 1
        if at == len(text):
            raise DistinguishedNameError(f"expected TYPE=VALUE behind the last {text[end]!r}")
    return name


def _read(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where its separator or the text's end is."""
    while text[at : at + 1] == " ":
        at += 1
    quoted = text[at : at + 1] == '"'
    at += quoted
    if not quoted and text[at : at + 1] == "#":  # RFC 4514 2.4: BER in hex, where a program does not know the type
        raise DistinguishedNameError(f"expected a value in letters, came one in hex, {text[at:][:SHOWN]!r}")
    octets, solid = bytearray(), 0  # up to where blanks at the end are the value's own
    while at < len(text):
        character = text[at]
        if character == "\\":
            octet, at = _escaped(text, at + 1)
            octets += octet
            solid = len(octets)
            continue
        if quoted and character == '"':
            end = at + 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip(" "))
            if end < len(text) and text[end] not in SEPARATORS:
                raise DistinguishedNameError(f"expected a separator behind a quoted value, came {text[end:][:SHOWN]!r}")
            return _decoded(octets), end
        if not quoted and character in SEPARATORS:
            break
        if not quoted and character in '"<>':
            raise DistinguishedNameError(f"expected \\{character} within a value, came {character} alone")
        if not quoted and character == "/" and _SLASH.match(text, at):  # which older OpenSSLs put between two parts
            raise DistinguishedNameError(f"expected , or + before a TYPE=VALUE, or \\2F, came {text[at:][:SHOWN]!r}")
        octets += character.encode("utf-8", "surrogatepass")
        solid = len(octets) if character != " " or quoted else solid
        at += 1
    if quoted:
        raise DistinguishedNameError('expected " at the end of a value that begins so')
    return _decoded(octets[:solid]), at


def _escaped(text: str, at: int) -> tuple[bytes, int]:
    """What is behind a backslash, and where it ends."""
    if text[at : at + 1] in SPECIAL and at < len(text):
        return text[at].encode(), at + 1
    if _HEX.fullmatch(text[at : at + 2]):
        return bytes.fromhex(text[at : at + 2]), at + 2
    raise DistinguishedNameError(f"expected a special character or two hex digits behind a \\, came {text[at:][:2]!r}")


def _type(text: str) -> str:
    """Dotted."""
    said = text.strip()
    found = _TYPE.fullmatch(said)
    if found is not None and found[1]:
        return found[1]
    upper = said.upper()
    known = TYPES.get(ALIASES.get(upper, upper))
    if found is None or known is None:
        raise DistinguishedNameError(f"expected an attribute such as CN, O or 2.5.4.10, came {said[:SHOWN]!r}")
    return known


def _value(text: str) -> str:
    if not text.strip():
        raise DistinguishedNameError("expected a value behind =, came none")
    if not text.replace("\t", " ").isprintable():
        raise DistinguishedNameError(f"expected printable characters, came {text[:SHOWN]!r}")
    return text


def _decoded(octets: Iterable[int]) -> str:
    try:
        return bytes(octets).decode()
    except UnicodeDecodeError:
        raise DistinguishedNameError("expected escaped octets to be UTF-8") from None
