"""The address by which a client is counted: its own, or the one that a proxy of ours names, never one it made up."""

import time
from collections.abc import Mapping
from functools import cache

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingress.limits.addresses import Addresses
from ingress.settings import IngressSettings

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"
OURS = "10.0.0.0/8, fd00::/8"


@cache
def behind(trusted: str) -> Addresses:
    """Return the finder of addresses that trusts these proxies."""
    return Addresses(IngressSettings(_env_file=None, trusted_proxies=trusted).trusted_networks)


def counted_address(peer: str, *headers: tuple[str, str], trusted: str = OURS) -> str:
    """Return by which address a request of this peer counts."""
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers))
    return behind(trusted).of(request.clone(remote=peer))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (CLIENT, CLIENT),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", CLIENT),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_counts_by_its_address_and_in_ipv6_by_its_network(peer: str, address: str) -> None:
    assert counted_address(peer) == address


FORGED = ("Forwarded", "for=198.51.100.1"), ("X-Forwarded-For", "198.51.100.1")


@pytest.mark.parametrize("header", FORGED)
def test_an_address_header_from_a_stranger_is_ignored(header: tuple[str, str]) -> None:
    assert counted_address(CLIENT, header) == CLIENT
    assert counted_address(PROXY, header, trusted="") == PROXY


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([("Forwarded", "for=192.0.2.7")], CLIENT),
        ([("Forwarded", 'For="192.0.2.7:4711";proto=https;by=10.0.0.1')], CLIENT),
        ([("Forwarded", "proto=https;for=192.0.2.7:4711")], CLIENT),
        ([("Forwarded", 'for="[2001:db8::1]:4711"')], "2001:db8::/64"),
        ([("Forwarded", 'for="[2001:db8::1]"')], "2001:db8::/64"),
        ([("Forwarded", 'for="[2001:db8::1]:_port"')], "2001:db8::/64"),
        # The client's entries are left of our proxies' entries; the last proxy is the peer.
        ([("Forwarded", "for=198.51.100.1, for=192.0.2.7")], CLIENT),
        ([("Forwarded", "for=198.51.100.1"), ("Forwarded", "for=192.0.2.7")], CLIENT),
        ([("Forwarded", 'for=192.0.2.7, for=10.1.2.3, for="[fd00::1]"')], CLIENT),
        ([("X-Forwarded-For", CLIENT)], CLIENT),
        ([("X-Forwarded-For", "192.0.2.7:4711")], CLIENT),
        ([("X-Forwarded-For", "2001:db8::1")], "2001:db8::/64"),
        ([("X-Forwarded-For", "[2001:db8::1]:80")], "2001:db8::/64"),
        ([("X-Forwarded-For", "nonsense, 198.51.100.1,192.0.2.7 , 10.1.2.3")], CLIENT),
        ([("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", CLIENT)], CLIENT),
        ([("Forwarded", "for=192.0.2.7"), ("X-Forwarded-For", CLIENT)], CLIENT),
    ],
)
def test_a_trusted_proxy_names_the_client(headers: list[tuple[str, str]], address: str) -> None:
    assert counted_address(PROXY, *headers) == address
    assert counted_address("::ffff:10.0.0.1", *headers) == address


UNREADABLE: Mapping[str, list[tuple[str, str]]] = {
    "nothing": [],
    "empty": [("Forwarded", "")],
    "no address": [("Forwarded", "for=unknown")],
    "a hidden one": [("Forwarded", "for=_hidden")],
    "no client in the last element": [("Forwarded", "for=198.51.100.1, proto=https")],
    "an unended quote": [("Forwarded", 'for="198.51.100.1')],
    "a quote that swallows the proxy's entry": [("Forwarded", 'for=198.51.100.1;x=", for="192.0.2.7:80"')],
    "the proxy's entry cut off": [("Forwarded", "for=198.51.100.1, =")],
    "too large a number": [("Forwarded", "for=192.0.2.700")],
    "an unreadable one before a proxy": [("X-Forwarded-For", "192.0.2.7, nonsense, 10.1.2.3")],
    "only proxies": [("X-Forwarded-For", "10.1.2.3, 10.1.2.4")],
    "a name": [("X-Forwarded-For", "client.example")],
    "a port alone": [("X-Forwarded-For", ":80")],
    # A proxy that writes one of the two passes on the other as it came from the client.
    "two that contradict each other": [("Forwarded", "for=198.51.100.1"), ("X-Forwarded-For", CLIENT)],
    "two of which one is unreadable": [("Forwarded", "for=unknown"), ("X-Forwarded-For", CLIENT)],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_proxy_that_names_no_clear_client_counts_as_the_client(name: str) -> None:
    assert counted_address(PROXY, *UNREADABLE[name]) == PROXY


@given(
    made_up=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60),
    quoted=st.booleans(),
)
@settings(deadline=None)
def test_a_client_with_made_up_headers_counts_by_its_address_or_its_proxys(made_up: str, *, quoted: bool) -> None:
    client = '"192.0.2.7:4711"' if quoted else CLIENT
    assert counted_address(PROXY, ("Forwarded", f"{made_up}, for={client}")) in {CLIENT, PROXY}
    assert counted_address(PROXY, ("X-Forwarded-For", f"{made_up}, {CLIENT}")) == CLIENT


def test_the_longest_header_that_can_come_is_read_at_once() -> None:
    began = time.process_time()
    for hostile in ('for="' + "\\" * 8000, "for=" + "a" * 8000, " \t" * 4000, "for=1.1.1.1," * 600, '"' * 8000):
        for _ in range(10):
            assert counted_address(PROXY, ("Forwarded", hostile)) in {PROXY, "1.1.1.1"}
    assert time.process_time() - began < 2
