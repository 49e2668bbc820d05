"""A first look at a file: is it anything that is taken here? Everything else is ingest's to find out."""

import os
from typing import IO

from shared.errors import HounsfieldError, UnsupportedImage
from shared.events.types import Kind
from shared.formats.head import identify_head
from shared.formats.source import HEAD_BYTES
from shared.formats.types import Identified

_WHAT: dict[Kind, str] = {
    "ct": "a CT",
    "brain-mri": "a brain MRI",
    "oct": "an OCT scan",
    "slide": "a whole-slide image",
}


def first_look(
    stream: IO[bytes], label: str, kind: Kind | None = None, *, alone: bool = True
) -> tuple[Identified, int]:
    """What a file is by its first bytes, and its size; leaves it at its beginning.

    label: how to call the file in the message. Not its name, which may be a patient's. `alone`: it comes without others
    that it may belong to. Raises UnsupportedImage, Invalid, TooLarge.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    try:
        found = identify_head(head, size)
    except HounsfieldError as error:
        raise type(error)(f"{label}: {error.detail}") from error
    if found.needs is not None and alone:
        raise UnsupportedImage(f"{label}: {found.needs}")
    if kind is not None and found.kind is not None and kind != found.kind:
        raise UnsupportedImage(
            f"{label} is {_WHAT[found.kind]}, not {_WHAT[kind]}; send it as kind {found.kind}"
        )
    return found, size
