"""The client's address: the peer's, unless the peer is a proxy of ours that names the client.

Only the entries of configured proxies count, and proxies append at the right end: entries to the left of theirs came
from the client. A malformed header is ignored, and so are two that contradict each other: a proxy that writes one of
them may pass on the other as the client sent it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from aiohttp import hdrs, web

from ingress.settings import Network

Address: TypeAlias = IPv4Address | IPv6Address
_MAX_PEERS_REMEMBERED: Final = 4096
# One `name=value` of RFC 7239 with its separator: `;` in an element, `,` between two. Proxies forget to quote colons.
_PAIR: Final = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=
        (?:([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+)|"((?:[^"\\]|\\.)*)")[ \t]*(;|,|$)""",
    re.ASCII | re.VERBOSE,
)
# An address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80.
_NODE: Final = re.compile(
    r"(?:\[([0-9A-F:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[0-9A-Z._-]+))?|([0-9A-F:.]+)", re.ASCII | re.IGNORECASE
)


class Addresses:
    """Finds the address by which a request is counted: an IPv4 address, or the /64 of an IPv6 one.

    A customer gets a /64 or more of IPv6, and can change the address within it at will.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        """Trust the proxies in these networks."""
        self._trusted = trusted
        self._peer = lru_cache(_MAX_PEERS_REMEMBERED)(self._look_at_peer)

    def of(self, request: web.BaseRequest) -> str:
        """Return the client's address as it is counted."""
        counted, is_proxy = self._peer(request.remote)
        if is_proxy and (client := self._client(request)) is not None:
            return _as_counted(client)
        return counted

    def _look_at_peer(self, remote: str | None) -> tuple[str, bool]:
        address = _address((remote or "").partition("%")[0])
        if address is None:
            # A socket in the file system has no address; all its users are one client.
            return remote or "", False
        return _as_counted(address), self._is_trusted(address)

    def _client(self, request: web.BaseRequest) -> Address | None:
        """Return the client that a proxy names; None when it names none, or not clearly."""
        named = []
        if forwarded := request.headers.getall(hdrs.FORWARDED, ()):
            named.append(self._first_stranger(_forwarded_for(",".join(forwarded))))
        if x_forwarded_for := request.headers.getall(hdrs.X_FORWARDED_FOR, ()):
            named.append(self._first_stranger(",".join(x_forwarded_for).split(",")))
        return named[0] if named and named[0] == named[-1] else None

    def _first_stranger(self, nodes: Sequence[str]) -> Address | None:
        """Return the first node from our end that is no proxy of ours; None when one before it cannot be read."""
        for node in reversed(nodes):
            address = _address(node.strip())
            if address is None or not self._is_trusted(address):
                return address
        return None

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded_for(header: str) -> list[str]:
    """Return the values of `for=`, element by element; none at all when the header is malformed."""
    nodes, node, end = [], "", 0
    while end < len(header):
        pair = _PAIR.match(header, end)
        if pair is None:
            return []
        name, token, quoted, separator = pair.groups()
        if name.lower() == "for":
            node = token or re.sub(r"\\(.)", r"\1", quoted)
        if separator != ";":
            nodes.append(node)
            node = ""
        end = pair.end()
    return nodes


def _address(node: str) -> Address | None:
    found = _NODE.fullmatch(node)
    if found is None:
        return None
    try:
        address = ip_address(found[1] or found[2] or found[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _as_counted(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
