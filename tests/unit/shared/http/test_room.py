"""Who gets a place, and who loses it."""

from dataclasses import dataclass

from shared.http.room import OVERFLOW, Room


@dataclass(eq=False)
class Guest:
    """A connection that says what it is told to say."""

    since: float | None = None
    is_dropped: bool = False

    def waits_since(self) -> float | None:
        return self.since

    def drop(self) -> None:
        self.is_dropped = True


def dropped(guests: list[Guest]) -> list[bool]:
    return [guest.is_dropped for guest in guests]


def test_the_one_that_keeps_us_waiting_longest_makes_room_and_nobody_who_is_answered() -> None:
    room, guests = Room(4, []), [Guest(None), Guest(3.0), Guest(2.0), Guest(None)]
    assert all(room.admit(guest, f"192.0.2.{index}") for index, guest in enumerate(guests))
    assert room.admit(Guest(None), "192.0.2.10")
    assert dropped(guests) == [False, False, True, False]
    assert room.admit(Guest(None), "192.0.2.11")
    assert dropped(guests) == [False, True, True, False]
    assert not room.admit(Guest(), "192.0.2.12")
    room.leave(guests[0])
    assert room.admit(Guest(), "192.0.2.12")


def test_an_address_that_has_half_takes_from_nobody_else() -> None:
    room, other, mine = Room(4, []), Guest(1.0), [Guest(2.0), Guest(None)]
    room.admit(other, "192.0.2.1")
    assert all(room.admit(guest, "192.0.2.2") for guest in mine)
    assert room.admit(Guest(None), "192.0.2.2")
    assert (dropped(mine), other.is_dropped) == ([True, False], False)
    assert not room.admit(Guest(), "192.0.2.2")
    assert room.admit(Guest(), "192.0.2.3")


def test_who_has_most_places_loses_first_however_patient_others_must_be_with_somebody_else() -> None:
    room, slow = Room(6, []), Guest(1.0)
    room.admit(slow, "192.0.2.1")
    attackers = {address: [Guest(2.0 + n) for n in range(40)] for address in ("192.0.2.2", "192.0.2.3")}
    for guests in zip(*attackers.values(), strict=True):
        for address, guest in zip(attackers, guests, strict=True):
            room.admit(guest, address)
    assert not slow.is_dropped


def test_a_proxys_places_are_those_of_many() -> None:
    room, proxy, others = Room(4, ["10.0.0.0/8"]), [Guest(2.0), Guest(3.0)], [Guest(4.0), Guest(1.0)]
    for guest in proxy:
        room.admit(guest, "10.1.2.3")
    for guest, address in zip(others, ("192.0.2.1", "192.0.2.2"), strict=True):
        room.admit(guest, address)
    room.admit(Guest(), "192.0.2.3")
    assert dropped([*proxy, *others]) == [False, False, False, True]


def test_all_addresses_of_an_ipv6_network_are_one() -> None:
    room = Room(4, [])
    assert all(room.admit(Guest(), f"2001:db8::{index}") for index in (1, 2))
    assert not room.admit(Guest(), "2001:db8::3")
    assert room.admit(Guest(), "2001:db8:0:1::3")


def test_mapped_addresses_are_the_ipv4_ones_that_they_are() -> None:
    room = Room(4, [])
    assert all(room.admit(Guest(), f"::ffff:192.0.2.{index}") for index in (1, 1, 2))
    assert not room.admit(Guest(), "192.0.2.1")


def test_a_proxy_may_have_all_places_but_no_more() -> None:
    room = Room(4, ["192.0.2.0/24"])
    assert all(room.admit(Guest(), "192.0.2.1") for _ in range(4))
    assert not room.admit(Guest(), "192.0.2.1")


def test_one_place_is_a_place() -> None:
    room, first = Room(1, []), Guest(1.0)
    assert room.admit(first, "192.0.2.1")
    assert room.admit(Guest(), "192.0.2.1")
    assert first.is_dropped


def test_only_some_are_told_that_there_is_no_place() -> None:
    room, told = Room(1, []), [Guest() for _ in range(OVERFLOW)]
    assert all(room.refuse(guest) for guest in told)
    assert not room.refuse(Guest())
    room.leave(told[0])
    assert room.refuse(Guest())
