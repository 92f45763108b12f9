"""Distinguished names: one name however it is written, and no name where it could be another."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from interceptors.distinguished import TYPES, DistinguishedNameError, canonical, parse

COMMON, ORGANIZATION, COUNTRY, UNIT, DOMAIN, EMAIL = (
    TYPES[name] for name in ("CN", "O", "C", "OU", "DC", "EMAILADDRESS")
)
EXAMPLE = "CN=example ca,O=example"

SAME = {
    "RFC 4514": "CN=Example CA,O=Example",
    "the certificate's order": "O=Example,CN=Example CA",
    "blanks": "  CN = Example CA ,  O = Example ",
    "case": "cn=EXAMPLE ca,o=eXample",
    "runs of blanks": "CN=Example  CA,O=\\ Example\\ ",
    "quotes": 'CN="Example CA", O="Example"',
    "semicolons": "CN=Example CA;O=Example",
    "slashes": "/O=Example/CN=Example CA",
    "slashes, the other way": "/CN=Example CA/O=Example",
    "long names": "commonName=Example CA,organizationName=Example",
    "numbers": "2.5.4.3=Example CA,OID.2.5.4.10=Example",
    "escapes": "CN=Ex\\61mple\\20CA,O=\\45xample",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_one_name(text: str) -> None:
    assert canonical(parse(text)) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CN=a\\, b\\+c\\=d\\\\,O=x", [[(COMMON, "a, b+c=d\\")], [(ORGANIZATION, "x")]]),
        ('CN="a, b+c=d;e<f>"', [[(COMMON, "a, b+c=d;e<f>")]]),
        ('CN="a \\"b\\""', [[(COMMON, 'a "b"')]]),
        ("CN=a+OU=b,O=c", [[(COMMON, "a"), (UNIT, "b")], [(ORGANIZATION, "c")]]),
        ("CN=\\C3\\84rzte,O=Ä", [[(COMMON, "Ärzte")], [(ORGANIZATION, "Ä")]]),
        ("/C=DE/O=\\xC3\\x84/CN=a/b", [[(COUNTRY, "DE")], [(ORGANIZATION, "Ä")], [(COMMON, "a/b")]]),
        ("/O=東\\xC3\\x84/CN=a", [[(ORGANIZATION, "東Ä")], [(COMMON, "a")]]),
        ("DC=ca,DC=example,DC=org", [[(DOMAIN, "ca")], [(DOMAIN, "example")], [(DOMAIN, "org")]]),
        ("E=a@b.org,CN=\\#1", [[(EMAIL, "a@b.org")], [(COMMON, "#1")]]),
        ("S=Bayern,T=x", [[(TYPES["ST"], "Bayern")], [(TYPES["TITLE"], "x")]]),
    ],
)
def test_how_it_is_read(text: str, name: list[list[tuple[str, str]]]) -> None:
    assert parse(text) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty text"),
        ("  ", "an empty text"),
        ("/", "expected /TYPE=VALUE"),
        ("Example CA", "expected TYPE=VALUE, came 'Example CA'"),
        ("CN=Example, Inc.", "a comma within a value is written \\,"),
        ("CN=a,", "behind the last ','"),
        ("CN=a,,O=b", "expected an attribute"),
        ("CN=a+", "behind the last '+'"),
        ("CN=,O=b", "expected a value behind ="),
        ('CN=" "', "expected a value behind ="),
        ("=a", "expected an attribute such as CN"),
        ("FOO=a", "expected an attribute such as CN, O or 2.5.4.10, came 'FOO'"),
        ("2.5.04=a", "expected an attribute"),
        ('CN=a"b', 'expected \\" within a value'),
        ("CN=a<b", "expected \\< within a value"),
        ('CN="a', 'expected " at the end'),
        ('CN="a"b', "expected a separator behind a quoted value, came 'b'"),
        ("CN=a\\q", "behind a \\, came 'q'"),
        ("CN=a\\", "behind a \\, came ''"),
        ("CN=\\FF", "to be UTF-8"),
        ("CN=a\x00b", "expected printable characters"),
        ("CN=a\u202eb", "expected printable characters"),
        ("CN=#0c0161,O=a", "expected a value in letters, came one in hex, '#0c0161,O=a'"),
        ("1.2.840.113549.1.9.1=#160161", "came one in hex"),
        ("O = a, CN = b/emailAddress=c", "expected , or + before a TYPE=VALUE"),
        ("/CN=\\xFF", "to be UTF-8"),
        ("/CN=a\\q", "expected \\x and two hex digits"),
        ("/CN", "expected /TYPE=VALUE"),
        ("//CN=a", "expected /TYPE=VALUE"),
        ("/FOO=a", "expected an attribute"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(DistinguishedNameError) as raised:
        parse(text)
    assert said in str(raised.value)


def test_others_are_others() -> None:
    texts = [
        "CN=a,O=b", "CN=b,O=a", "CN=a+O=b", "CN=a", "O=a", "OU=a,O=b", "CN=a,O=b,C=c", "CN=a,C=c,O=b", "CN=a\\,O\\=b",
        "CN=ab", "CN=a b", "CN=a\\+O\\=b", "DC=a,DC=b,DC=c", "DC=b,DC=a,DC=c",
    ]  # fmt: skip
    assert len({canonical(parse(text)) for text in texts}) == len(texts)


def test_attributes_of_one_part_have_no_order() -> None:
    assert len({canonical(parse("+".join(some) + ",C=d")) for some in permutations(("CN=a", "OU=b", "O=c"))}) == 1


values = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() != "" and text.isprintable()
)
names = st.lists(
    st.lists(st.tuples(st.sampled_from(sorted(TYPES.values())), values), min_size=1, max_size=2), min_size=1
)


@given(names)
def test_the_spelling_is_read_as_the_name_that_it_spells(name: list[list[tuple[str, str]]]) -> None:
    spelt = canonical(name)
    assert canonical(parse(spelt)) == spelt
    assert canonical(list(reversed(name))) == spelt


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = parse(text)
    except DistinguishedNameError:
        return
    assert canonical(parse(canonical(name))) == canonical(name)


OIDS = x509.NameOID
ISSUERS = {
    "plain": [[(OIDS.COUNTRY_NAME, "DE")], [(OIDS.ORGANIZATION_NAME, "Example")], [(OIDS.COMMON_NAME, "Example CA")]],
    "comma and quotes": [[(OIDS.ORGANIZATION_NAME, 'Example, "Inc."')], [(OIDS.COMMON_NAME, "CA; 1")]],
    "specials": [[(OIDS.ORGANIZATION_NAME, "a+b=c<d>e\\f")], [(OIDS.COMMON_NAME, "#1 CA")]],
    "other letters": [[(OIDS.ORGANIZATION_NAME, "Ärzte für Ωhm")], [(OIDS.COMMON_NAME, "東京 CA")]],
    "blanks": [[(OIDS.ORGANIZATION_NAME, " Example  Org ")], [(OIDS.COMMON_NAME, "CA")]],
    "two at once": [[(OIDS.COUNTRY_NAME, "DE")], [(OIDS.ORGANIZATIONAL_UNIT_NAME, "b"), (OIDS.COMMON_NAME, "a")]],
    "domain": [[(OIDS.DOMAIN_COMPONENT, "org")], [(OIDS.DOMAIN_COMPONENT, "example")], [(OIDS.COMMON_NAME, "CA")]],
    "others": [[(OIDS.EMAIL_ADDRESS, "ca@a.org")], [(OIDS.USER_ID, "7")], [(OIDS.TITLE, "x")], [(OIDS.SURNAME, "y")]],
}  # fmt: skip


FORMS = (
    "", "RFC2253", "oneline", "oneline,utf8,-esc_msb", "RFC2253,-esc_msb", "sname,utf8,sep_comma_plus,esc_2253",
    "lname,utf8,sep_comma_plus_space,esc_2253",
)  # fmt: skip


def certificate(relative: list[list[tuple[x509.ObjectIdentifier, str]]]) -> x509.Certificate:
    name = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in each]) for each in relative]
    )
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(0xA0B).not_valid_before(start).not_valid_after(start + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("relative", ISSUERS.values(), ids=ISSUERS)
def test_what_programs_print_is_the_certificates_issuer(
    relative: list[list[tuple[x509.ObjectIdentifier, str]]],
) -> None:
    """As OpenSSL prints it in each of its ways, and cryptography in its own."""
    made = certificate(relative)
    own = canonical([[(each.oid.dotted_string, str(each.value)) for each in part] for part in made.issuer.rdns])
    printed = {"cryptography": made.issuer.rfc4514_string()}
    for form in FORMS:
        command = ["openssl", "x509", "-noout", "-issuer", *(("-nameopt", form) if form else ())]
        done = subprocess.run(
            command, input=made.public_bytes(Encoding.PEM), capture_output=True, check=True, timeout=30
        )
        printed[form] = done.stdout.decode().removeprefix("issuer=").removesuffix("\n")
    assert {form: canonical(parse(text)) for form, text in printed.items()} == dict.fromkeys(printed, own)


def test_the_oldest_way_of_openssl() -> None:
    for relative in (ISSUERS["plain"], ISSUERS["other letters"], ISSUERS["domain"]):
        made = certificate(relative)
        own = canonical([[(each.oid.dotted_string, str(each.value)) for each in part] for part in made.issuer.rdns])
        command = ["openssl", "x509", "-noout", "-issuer", "-nameopt", "compat"]
        done = subprocess.run(
            command, input=made.public_bytes(Encoding.PEM), capture_output=True, check=True, timeout=30
        )
        assert canonical(parse(done.stdout.decode().removeprefix("issuer=").strip())) == own
