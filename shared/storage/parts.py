"""Rules of multipart uploads, the same for every adapter."""

from itertools import pairwise

from shared.errors import Invalid
from shared.storage.port import Part, PartMismatch

MAX_PARTS = 10_000
MAX_PART_BYTES = 5 << 30


def bare_etag(etag: str) -> str:
    """An ETag without the quotes that HTTP headers and some S3 answers put around it."""
    return etag.removeprefix('"').removesuffix('"')


def check_number(number: int) -> None:
    """Raises Invalid for a part number that S3 would not take."""
    if not 1 <= number <= MAX_PARTS:
        raise Invalid(f"A part number is 1 to {MAX_PARTS}.")


def check_part_bytes(part_bytes: int) -> None:
    """Raises Invalid for a part size that S3 would not take."""
    if not 1 <= part_bytes <= MAX_PART_BYTES:
        raise Invalid(f"A part has 1 to {MAX_PART_BYTES} bytes.")


def match_parts(named: list[Part], received: list[Part]) -> list[Part]:
    """The received parts, where completion names them all. Raises PartMismatch: order, number, ETag or size.

    AWS would leave out a part that is not named; Ceph refuses, and so do we: it was hardly meant.
    """
    if not named:
        raise PartMismatch("An upload is completed with at least one part.")
    numbers = [part.number for part in named]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise PartMismatch("Parts are named in ascending order, each once.")
    by_number = {part.number: part for part in received}
    if forgotten := sorted(by_number.keys() - set(numbers)):
        raise PartMismatch(f"Part {forgotten[0]} was received but is not named.")
    return [_match(part, by_number.get(part.number)) for part in named]


def check_whole(parts: list[Part]) -> None:
    """Raises PartMismatch unless numbers have no gap and all parts but the last have one size, the last no more.

    AWS would take any sizes and numbers; the port does not, see `Storage.start_multipart`.
    """
    for expected, part in enumerate(parts, 1):
        if part.number != expected:
            raise PartMismatch(f"Part {expected} was not received; parts are numbered 1, 2, 3 and so on.")
    size = parts[0].size
    for part in parts:
        if part.size > size or (part.size < size and part is not parts[-1]):
            raise PartMismatch(
                f"Part {part.number} has {part.size} bytes and part 1 has {size}; all but the last have one size, "
                "and the last has no more."
            )


def _match(named: Part, received: Part | None) -> Part:
    if received is None:
        raise PartMismatch(f"Part {named.number} was not received.")
    if bare_etag(named.etag) != bare_etag(received.etag):
        raise PartMismatch(f"Part {named.number} was received with another ETag.")
    if named.size != received.size:
        raise PartMismatch(f"Part {named.number} has {received.size} bytes, not {named.size}.")
    return received
