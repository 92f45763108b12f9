"""Keys as issuers publish them: fetched from real servers, over real TLS, and not from whoever else answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.identity.jwks import LARGEST
from sidecar.identity.sources import KeySource, SourceError
from sidecar.identity.sources_https import fetch
from sidecar.internal.urls import fetchable
from tests.certificates import Certificates, make
from tests.identity.issuing import jwk
from tests.identity.issuing import jwks as key_set
from tests.identity.servers import IssuerServer, issuer_server

GOOD = key_set(jwk("ES256"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Certificates) -> Iterator[IssuerServer]:
    with issuer_server(authority.server) as made:
        made.discover(GOOD)
        yield made


def source(server: IssuerServer, authority: Certificates, url: str = "") -> KeySource:
    return KeySource(server.url, url, str(authority.ca), 60.0)


def refused(of: KeySource, **how: Any) -> str:
    with pytest.raises(SourceError) as raised:
        fetch(of, **how)
    return str(raised.value)


def test_by_discovery_and_by_url(server: IssuerServer, authority: Certificates) -> None:
    assert fetch(source(server, authority)) == GOOD
    assert server.asked == ["/.well-known/openid-configuration", "/jwks"]
    assert fetch(source(server, authority, f"{server.url}/jwks")) == GOOD
    assert server.asked[2:] == ["/jwks"]


def test_an_issuer_with_a_path_and_one_with_a_slash(server: IssuerServer, authority: Certificates) -> None:
    server.paths["/realm/.well-known/openid-configuration"] = (
        200, {}, b'{"issuer": "%s/realm/", "jwks_uri": "%s/jwks"}' % ((server.url.encode(),) * 2),
    )  # fmt: skip
    assert fetch(KeySource(f"{server.url}/realm/", "", str(authority.ca), 60.0)) == GOOD


def test_a_server_of_another_authority_is_not_believed(server: IssuerServer, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    assert "its certificate is not good" in refused(source(server, other))
    assert "its certificate is not good" in refused(KeySource(server.url, "", "", 60.0))  # by the system's CAs
    assert server.asked == []


def test_a_certificate_for_another_name_is_not_believed(server: IssuerServer, authority: Certificates) -> None:
    elsewhere = server.url.replace("127.0.0.1", "127.0.0.2")
    assert refused(KeySource(elsewhere, f"{elsewhere}/jwks", str(authority.ca), 60.0))
    assert server.asked == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"issuer": "https://another.example"}, "another issuer's"),
        ({"issuer": None}, "another issuer's"),
        ({"jwks_uri": "http://keys.example/jwks"}, "no https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https URL"),
        ({"jwks_uri": 7}, "no https URL"),
        ({"jwks_uri": "https://user:secret@keys.example/"}, "no https URL"),
    ],
)
def test_a_discovery_document_that_is_not_the_issuers(
    server: IssuerServer, authority: Certificates, changed: dict[str, Any], fault: str
) -> None:
    server.discover(GOOD, **changed)
    said = refused(source(server, authority))
    assert fault in said
    assert "secret" not in said
    assert "/jwks" not in server.asked


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_discovery_document(server: IssuerServer, authority: Certificates, document: bytes) -> None:
    server.paths["/.well-known/openid-configuration"] = 200, {}, document
    assert "no JSON object" in refused(source(server, authority))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: IssuerServer, authority: Certificates, status: int) -> None:
    server.paths["/jwks"] = status, {"Location": f"{server.url}/elsewhere"}, b""
    server.paths["/elsewhere"] = 200, {}, GOOD
    assert refused(source(server, authority)) == f"{server.url}/jwks answered {status}"
    assert "/elsewhere" not in server.asked


@pytest.mark.parametrize("status", [204, 400, 401, 404, 429, 500, 503])
def test_other_answers_are_none(server: IssuerServer, authority: Certificates, status: int) -> None:
    server.paths["/jwks"] = status, {}, b""
    if status == 204:
        assert fetch(source(server, authority)) == b""  # which is no key set, as who reads it finds
    else:
        assert refused(source(server, authority)) == f"{server.url}/jwks answered {status}"


def test_an_endless_answer_and_a_slow_one_end(server: IssuerServer, authority: Certificates) -> None:
    server.paths["/jwks"] = 200, {}, b"x" * (LARGEST + 1)
    assert f"more than {LARGEST} bytes" in refused(source(server, authority))
    server.paths["/jwks"] = 200, {}, b"x" * 1_000
    server.drip_s = 0.05
    begin = time.monotonic()
    assert "in time" in refused(source(server, authority, f"{server.url}/jwks"), within_s=0.3)
    assert server.asked[-1] == "/jwks"
    assert time.monotonic() - begin < 30  # a byte at a time would have taken 50 s


@pytest.mark.parametrize("secure", [True, False])
def test_an_answer_that_never_comes_to_its_body_ends(authority: Certificates, secure: bool) -> None:
    """Not even its first line does: every byte of it is waited for anew."""
    with issuer_server(authority.server if secure else None) as slow:
        slow.head_drip_s = 0.05
        begin = time.monotonic()
        assert "in time" in refused(source(slow, authority, f"{slow.url}/jwks"), within_s=0.3)
        assert slow.asked == ["/jwks"]
        assert time.monotonic() - begin < 30  # a byte at a time would have taken 50 s


def test_no_proxy_stands_between_this_host_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with issuer_server() as server, issuer_server() as proxy:
        server.discover(GOOD)
        proxy.paths[f"{server.url}/jwks"] = 200, {}, b"keys of somebody else"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert fetch(KeySource(server.url, f"{server.url}/jwks", "", 60.0)) == GOOD
        assert proxy.asked == []


def test_nobody_there_and_no_file_of_cas(authority: Certificates, tmp_path: Path) -> None:
    with issuer_server() as gone:
        url = gone.url
    assert refused(KeySource(url, f"{url}/jwks", "", 60.0)) == f"{url}/jwks: Connection refused"
    missing = str(tmp_path / "none.pem")
    assert refused(KeySource(url, f"{url}/jwks", missing, 60.0)) == f"{missing}: No such file or directory"
    (tmp_path / "none.pem").write_text("no PEM")
    assert missing in refused(KeySource(url, f"{url}/jwks", missing, 60.0))


def test_plain_http_is_for_this_host() -> None:
    with issuer_server() as server:
        server.discover(GOOD)
        assert fetch(KeySource(server.url, "", "", 60.0)) == GOOD
    for url in ("https://a.example/keys", "https://a.example:8443/keys?tenant=1", "http://[::1]:80/"):
        assert fetchable(url)
    for url in (
        "http://a.example/", "http://127.0.0.1.example/", "https://", "https://a b/", "https://u:p@a/", "ftp://a/",
        "https://a:x/", "https://a/#f", "https://é/", "https://a/\n", "//a/", "", "https://[::1",
    ):  # fmt: skip
        assert not fetchable(url)
