"""Tables of the kernel, as it prints them on a little-endian host."""

import sys
from ipaddress import ip_address

import pytest

from sidecar.check.sockets import Listener, tcp_listeners, unix_listeners

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the tables below are of a little-endian host")

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2301 1 0000000000000000 100 0 0 10 0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2302 1 0000000000000000 100 0 0 10 0
   2: 0100007F:8CA2 0100007F:1F41 01 00000000:00000000 00:00000000 00000000  1000        0 2303 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:8CA4 0100007F:1F41 06 00000000:00000000 03:00000A2B 00000000     0        0 0 3 0000000000000000
"""  # noqa: E501
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F42 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2304 1 0000000000000000 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:1F43 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2305 1 0000000000000000 100 0 0 10 0
   2: B80D0120000000000000000001000000:1F44 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2306 1 0000000000000000 100 0 0 10 0
"""  # noqa: E501
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 4001 /run/model server.sock
0000000000000000: 00000003 00000000 00000000 0001 03 4002 /run/model server.sock
0000000000000000: 00000002 00000000 00010000 0001 01 4003 @abstract
0000000000000000: 00000003 00000000 00000000 0001 03 4004
"""


def test_only_listening_sockets_count() -> None:
    assert tcp_listeners(TCP) == [
        Listener(ip_address("127.0.0.1"), 8001, 2301, 1000),
        Listener(ip_address("0.0.0.0"), 8000, 2302, 0),
    ]


def test_ipv6_addresses_are_words_in_host_order() -> None:
    found = tcp_listeners(TCP6)
    assert [str(each.host) for each in found] == ["::1", "127.0.0.1", "2001:db8::1"]
    assert [each.loopback for each in found] == [True, True, False]


def test_unix_sockets_are_found_by_their_path() -> None:
    assert unix_listeners(UNIX) == {"/run/model server.sock": 4001}


@pytest.mark.parametrize("table", ["", "head\n", "head\n\n", "head\n   0: x\n"])
def test_tables_that_say_nothing(table: str) -> None:
    assert tcp_listeners(table) == []
    assert unix_listeners(table) == {}
