"""Who may be connected at a time. Where it is full, those go who keep us waiting: of the address that has the most places
the one that does so longest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Protocol

from shared.http.addresses import ip_of, network_of

OVERFLOW = 64
"""So many connections over the limit are told so; more are dropped unheard."""


class Visitor(Protocol):
    """A connection, from the moment that it is accepted."""

    def waits_since(self) -> float | None:
        """Since when it is the client's turn to do something; None while it is ours."""

    def drop(self) -> None:
        """End it at once."""


class Room:
    """So many places, of which one address holds half at most. An IPv6 network of 64 bits is one address."""

    def __init__(self, places: int, exempt: Sequence[str]) -> None:
        """Networks that are `exempt`, of proxies, may hold all places: they speak for many."""
        self._places = places
        self._share = -(-places // 2)
        self._exempt = [ip_network(network) for network in exempt]
        self._inside: dict[Visitor, str | None] = {}
        """Visitors and their networks; those of proxies have none."""
        self._refused: set[Visitor] = set()

    def admit(self, visitor: Visitor, address: str) -> bool:
        """Give it a place, which another may have to leave. False where everybody who might is being answered."""
        network = None if self._is_exempt(address) else network_of(address)
        neighbours = [v for v, n in self._inside.items() if n == network] if network else []
        if len(neighbours) >= self._share:
            is_free = self._make_leave(neighbours)
        else:
            is_free = len(self._inside) < self._places or self._make_leave(self._inside)
        if is_free:
            self._inside[visitor] = network
        return is_free

    def refuse(self, visitor: Visitor) -> bool:
        """Whether a visitor without a place can be told so."""
        is_told = len(self._refused) < OVERFLOW
        if is_told:
            self._refused.add(visitor)
        return is_told

    def leave(self, visitor: Visitor) -> None:
        """Note that it is gone."""
        self._inside.pop(visitor, None)
        self._refused.discard(visitor)

    def _is_exempt(self, address: str) -> bool:
        ip = ip_of(address)
        return ip is not None and any(ip in network for network in self._exempt)

    def _make_leave(self, visitors: Iterable[Visitor]) -> bool:
        since = {visitor: when for visitor in visitors if (when := visitor.waits_since()) is not None}
        if not since:
            return False
        held = Counter(network for network in self._inside.values() if network)
        leaving = min(since, key=lambda visitor: (-max(held[self._inside[visitor] or ""], 1), since[visitor]))
        leaving.drop()
        self.leave(leaving)
        return True
