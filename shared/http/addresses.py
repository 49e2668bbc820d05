"""IP addresses of peers, and what proxies say instead of them."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network


def ip_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address that `text` writes; None for anything else. A zone (`%eth0`) is left out: it may be any text."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(text: str) -> str:
    """What counts as one caller: an address, or the IPv6 network of 64 bits that all belongs to its owner."""
    address = ip_of(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return str(address or text)


def is_within(text: str, networks: Iterable[str]) -> bool:
    """Whether `text` writes an address of one of the networks (a single address is one too)."""
    address = ip_of(text)
    return address is not None and any(address in ip_network(network) for network in networks)
