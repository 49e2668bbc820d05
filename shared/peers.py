"""Who may associate with the DICOM node: calling AE titles, where they call from, and in whose name they send."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

ANYWHERE = "*"
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
"""PS3.5 §6.2, VR AE: 16 printable characters, no backslash, spaces only inside."""
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Peer:
    """One application entity that is let in. network: None is anywhere; tenant: None is the default one."""

    title: str
    network: IPv4Network | IPv6Network | None
    tenant: str | None = None

    def is_at(self, address: str) -> bool:
        """Whether it may call from there."""
        if self.network is None:
            return True
        found = ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)  # a socket for both kinds shows IPv4 within IPv6
        return (mapped or found) in self.network


def parse_peers(peers: Mapping[str, str]) -> dict[str, Peer]:
    """Peers by their title. A value is `address`, `network` or `*`, and may end in `;tenant=slug`. Raises ValueError."""
    return {title: _peer(title, value) for title, value in peers.items()}


def is_title(text: str) -> bool:
    """Whether an application entity may be called so."""
    return _TITLE.fullmatch(text) is not None


def _peer(title: str, value: str) -> Peer:
    if not is_title(title):
        raise ValueError(
            "an AE title has 1 to 16 printable ASCII characters, no backslash, no space at its ends"
        )
    where, *options = (part.strip() for part in value.split(";"))
    tenant = None
    for option in options:
        name, _, tenant = option.partition("=")
        if name != "tenant" or not _TENANT.fullmatch(tenant) or len(options) > 1:
            raise ValueError(f"after the address of {title} there may be `;tenant=<slug>`, nothing else")
    try:
        network = None if where == ANYWHERE else ip_network(where)
    except ValueError as error:
        raise ValueError(
            f"{error}; write an address, a network such as 10.0.0.0/8, or * for {title}"
        ) from None
    return Peer(title, network, tenant)
