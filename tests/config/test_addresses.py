import pytest

from sidecar.config.addresses import Address, TcpAddress, UnixAddress, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8443", TcpAddress("127.0.0.1", 8443)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("[::1]:1", TcpAddress("::1", 1)),
        ("[0:0:0:0:0:0:0:1]:65535", TcpAddress("::1", 65535)),
        ("model-server.ns_1.svc:8001", TcpAddress("model-server.ns_1.svc", 8001)),
        ("unix:///run/model.sock", UnixAddress("/run/model.sock")),
    ],
)
def test_forms(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1:8443", "[::1]:1", "host:1", "unix:///run/model.sock"])
def test_an_address_prints_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "8443", ":8443", "host", "host:", "host:65536", "host:-1", "host:80x", "::1:80", "[::1]", "[::1]80",
        "[127.0.0.1]:80",         "[fe80::1%eth0]:80", "256.0.0.1:80", "1.2.3:80", "-host:80", "ho st:80", "host:80\n", "http://host:80",
        "a..b:1", "unix://run/model.sock", "unix:/run/model.sock", "unix:///", "unix:///a/", "unix:///a//b", "unix:///a\0b",
        f"unix:///{'x' * 108}", f"{'a' * 64}.b:1", "hôst:1", "host:８０",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(host:port|a Unix socket path)"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("[::ffff:127.0.0.1]:1", True),
        ("localhost:1", True), ("LOCALHOST:1", True), ("a.localhost:1", True), ("unix:///a", True),
        ("0.0.0.0:1", False), ("[::]:1", False),
        ("[::ffff:10.0.0.1]:1", False), ("10.0.0.1:1", False), ("host:1", False), ("localhost.example.org:1", False),
    ],
)  # fmt: skip
def test_who_can_reach_it(text: str, loopback: bool) -> None:
    assert parse(text).loopback is loopback
