"""The parts of an upload against what was declared, and their joining."""

from collections.abc import Sequence

from functions.upload.parts.schemas import NamedPart
from functions.upload.parts.sizes import bytes_of_part, count_parts
from functions.upload.receiving import BUCKET
from shared.db.models import Upload
from shared.errors import Conflict, Invalid
from shared.storage.parts import match_parts
from shared.storage.port import ObjectNotFound, Part, PartMismatch, Storage, UploadNotFound

NAMED = 20
"""How many missing parts a message names."""


def received_parts(storage: Storage, upload: Upload) -> list[Part]:
    """What the store has. Parts that were joined, by a finish that was killed before it was recorded, have no ETags."""
    try:
        return storage.list_parts(BUCKET, upload.key, upload.storage_id)
    except UploadNotFound:
        return _all_parts(upload) if _is_joined(storage, upload) else []


def join_parts(storage: Storage, upload: Upload, named: Sequence[NamedPart] | None) -> None:
    """Make the upload's object of its parts, all or those named; nothing is to do where that was done before.

    Raises PartMismatch for order, number, ETag or size; Conflict where parts are missing; Invalid for numbers that
    there are not.
    """
    try:
        received = storage.list_parts(BUCKET, upload.key, upload.storage_id)
        chosen = match_parts(_named(upload, named), received) if named else received
        _check_whole(upload, chosen)
        storage.complete_multipart(BUCKET, upload.key, upload.storage_id, chosen)
    except UploadNotFound as error:
        if not _is_joined(storage, upload):
            raise Conflict(
                "the store has nothing of this upload any more; abort it and start another"
            ) from error


def _named(upload: Upload, named: Sequence[NamedPart]) -> list[Part]:
    count = count_parts(upload.size, upload.part_bytes)
    if (highest := max(part.number for part in named)) > count:
        raise Invalid(f"parts: the upload has {count:,} parts, so there is none of number {highest:,}")
    return [
        Part(part.number, part.etag, _size_of(upload, part.number) if part.size is None else part.size)
        for part in named
    ]


def _check_whole(upload: Upload, parts: Sequence[Part]) -> None:
    """Every part is there and has its size: then the whole has what was declared."""
    for part in parts:
        if part.number > count_parts(upload.size, upload.part_bytes):
            raise PartMismatch(f"Part {part.number} was received, which this upload has not.")
        if part.size != (expected := _size_of(upload, part.number)):
            raise PartMismatch(
                f"Part {part.number} has {part.size:,} bytes, not {expected:,}; send it again."
            )
    numbers = {part.number for part in parts}
    missing = [part.number for part in _all_parts(upload) if part.number not in numbers]
    if missing:
        listed = ", ".join(map(str, missing[:NAMED])) + (", …" if len(missing) > NAMED else "")
        raise Conflict(
            f"{len(missing):,} of the upload's {count_parts(upload.size, upload.part_bytes):,} parts "
            f"{'was' if len(missing) == 1 else 'were'} not received: {listed}",
            missing=missing[:NAMED],
        )


def _all_parts(upload: Upload) -> list[Part]:
    count = count_parts(upload.size, upload.part_bytes)
    return [Part(number, "", _size_of(upload, number)) for number in range(1, count + 1)]


def _size_of(upload: Upload, number: int) -> int:
    return bytes_of_part(upload.size, upload.part_bytes, number)


def _is_joined(storage: Storage, upload: Upload) -> bool:
    try:
        return storage.head(BUCKET, upload.key).size == upload.size
    except ObjectNotFound:
        return False
