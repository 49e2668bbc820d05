"""How large an upload may be, and into how many parts it is cut."""

from shared.config import Settings
from shared.errors import Invalid, TooLarge
from shared.storage.parts import MAX_PARTS

MIN_PART_BYTES = 5 << 20
"""S3 takes none below, but for the last."""
MAX_PART_BYTES = 1 << 30
CHOSEN_PART_BYTES = 16 << 20
"""What the folder store takes in cheaply (`benchmarks.upload`), and little enough to send again."""
CHOSEN_PARTS = 5_000
"""At most so many where the sender leaves it to us."""


def check_size(settings: Settings, size: int, kind: str | None, *, whole: bool = True) -> None:
    """Raise TooLarge or Invalid where a file of that kind is over or under its limit.

    whole: it is all of the study; of a slide in several files, such as DICOM's, each may be small.
    """
    if kind != "slide" and size > settings.max_upload_bytes:
        raise TooLarge(
            f"the file has {size:,} bytes; the limit is {settings.max_upload_bytes:,} for anything but a slide"
            + ("" if kind else f" (a slide, sent with kind=slide: {settings.max_slide_bytes:,})"),
            limit_bytes=settings.max_upload_bytes,
        )
    if kind == "slide" and size > settings.max_slide_bytes:
        raise TooLarge(
            f"the slide has {size:,} bytes; the limit is {settings.max_slide_bytes:,}",
            limit_bytes=settings.max_slide_bytes,
        )
    if kind == "slide" and whole and size < settings.min_slide_bytes:
        raise Invalid(
            f"the slide has {size:,} bytes; a whole-slide image has {settings.min_slide_bytes:,} or more"
        )


def part_size(size: int, asked: int | None = None, most: int = CHOSEN_PARTS) -> int:
    """Bytes of each part but the last: as asked for, or 16 MiB doubled until there are no more than `most` parts.

    Raises Invalid where what was asked for makes more than 10,000.
    """
    if asked is not None:
        if count_parts(size, asked) > MAX_PARTS:
            raise Invalid(
                f"part_bytes: parts of {asked:,} bytes make {count_parts(size, asked):,} of them; at most "
                f"{MAX_PARTS:,} are taken, so give {-(-size // MAX_PARTS):,} or more"
            )
        return asked
    chosen = CHOSEN_PART_BYTES
    while count_parts(size, chosen) > most:
        chosen *= 2
    return chosen


def count_parts(size: int, part_bytes: int) -> int:
    """How many parts there are."""
    return -(-size // part_bytes)


def bytes_of_part(size: int, part_bytes: int, number: int) -> int:
    """How many bytes part `number` has; numbers begin at 1."""
    return min(part_bytes, size - (number - 1) * part_bytes)
