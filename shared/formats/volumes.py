"""NIfTI, NRRD and MetaImage, told from the beginning of the file."""

import re
import zlib

from shared.errors import Invalid, UnsupportedImage
from shared.formats.source import HEAD_BYTES, Source
from shared.formats.types import Format, Identified
from shared.imaging.metaimage_header import metaimage_fields

GZIP = b"\x1f\x8b"
_MAGIC = {348: (344, (b"n+1", b"ni1")), 540: (4, (b"n+2", b"ni2"))}
_METAIMAGE = re.compile(rb"[\s]*(ObjectType|NDims|Comment)\s*=\s*\S", re.IGNORECASE)
_DETACHED = re.compile(rb"^data ?file\s*:", re.IGNORECASE | re.MULTILINE)


def nifti(source: Source) -> Identified | None:
    """NIfTI-1 or -2, plain or gzipped. Half of a .hdr/.img pair and Analyze 7.5 are refused."""
    head = source.read(0, min(source.size, 4096))
    compressed = head.startswith(GZIP)
    if compressed:
        head = inflated(head, 548)
    sizes = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    size = next((size for size in sizes if size in _MAGIC), 0)
    if not size:
        return None
    offset, (single, pair) = _MAGIC[size]
    magic = head[offset : offset + 3]
    if magic == pair:
        raise UnsupportedImage(
            "The file is the .hdr half of a NIfTI .hdr/.img pair; convert the pair to one .nii or .nii.gz file."
        )
    if magic != single:
        if len(head) >= 348 and size == 348 and head[344:348] == bytes(4):
            raise UnsupportedImage(
                "The file is an Analyze 7.5 header; convert it to one .nii or .nii.gz file."
            )
        return None
    version = 1 if size == 348 else 2
    media_type = "application/gzip" if compressed else ""
    return Identified(
        Format.NIFTI, media_type=media_type, details={"version": version, "compressed": compressed}
    )


def nrrd(source: Source) -> Identified | None:
    """NRRD with its voxels in the same file; a detached header is refused."""
    head = source.read(0, min(source.size, HEAD_BYTES))
    if head[:7] != b"NRRD000":
        return None
    header, blank, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    if _DETACHED.search(header):
        raise UnsupportedImage(
            "The file is a detached NRRD header (.nhdr), whose voxels are in another file; "
            "save it as one attached .nrrd file."
        )
    if not blank:
        raise Invalid("The NRRD header does not end (an empty line before the voxels is missing).")
    return Identified(Format.NRRD)


def metaimage(source: Source) -> Identified | None:
    """MHA, a MetaImage with its voxels in the same file; MHD, whose voxels are elsewhere, is refused."""
    head = source.read(0, min(source.size, HEAD_BYTES))
    if not _METAIMAGE.match(head):
        return None
    metaimage_fields(head)
    return Identified(Format.MHA)


def inflated(head: bytes, count: int) -> bytes:
    """The first `count` bytes of what is in a gzip stream; b"" where it is damaged."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, count)
    except zlib.error:
        return b""
