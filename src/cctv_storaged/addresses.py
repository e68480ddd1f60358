"""Whom an address on the network stands for."""

import ipaddress

IPV6_PREFIX = 64
"""One customer's network, out of which anybody may take any address."""


def client_of(address: str | None) -> str:
    """Whom an address stands for."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)


def is_local(address: str | None) -> bool:
    """Whether it is this machine that asks."""
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
