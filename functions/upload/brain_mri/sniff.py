"""A first look at an upload: is it NIfTI at all? Everything else is ingest's to find out."""

import zlib
from typing import IO

from shared.errors import UnsupportedImage

GZIP = b"\x1f\x8b"
HEADER_BYTES = 544  # NIfTI-2's 540, and the 4 after it
_MAGIC = {348: (344, (b"n+1\x00", b"ni1\x00")), 540: (4, (b"n+2\x00", b"ni2\x00"))}


def require_nifti(file: IO[bytes], label: str) -> None:
    """Raise UnsupportedImage unless the file begins like .nii or .nii.gz; leaves it at its beginning.

    label: how to call the file in the message. Not its name, which may be a patient's.
    """
    head = file.read(4096)
    file.seek(0)
    if not head:
        raise UnsupportedImage(f"{label} is empty")
    compressed = head.startswith(GZIP)
    if compressed:
        head = _inflated(head)
    if not _is_nifti(head):
        what = "a gzip file, but what is in it" if compressed else "a file that"
        raise UnsupportedImage(f"{label} is {what} is not NIfTI; send a 3D volume as .nii or .nii.gz")


def _is_nifti(head: bytes) -> bool:
    sizes = int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")
    places = [_MAGIC[size] for size in sizes if size in _MAGIC]
    return any(head[offset : offset + 4] in magics for offset, magics in places)


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEADER_BYTES)
    except zlib.error:
        return b""
