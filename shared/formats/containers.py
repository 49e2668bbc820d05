"""Archives, and slide formats that are neither TIFF nor DICOM; TIFF itself."""

import re

from shared.errors import Invalid
from shared.formats.pictures import Picture, checked
from shared.formats.source import BeyondHead, Source
from shared.formats.tiff import Page, is_tiff, read_pages
from shared.formats.types import Format, Identified
from shared.formats.volumes import inflated

_TOGETHER = "send all files of the slide, in their folders, in one .zip or .tar.gz"
_VMS = re.compile(rb"(\xef\xbb\xbf)?\s*\[(Uncompressed )?Virtual Microscope Specimen\]")
_SLIDEDAT = re.compile(rb"(\xef\xbb\xbf)?\s*\[GENERAL\]\s.*?^SLIDE_", re.DOTALL | re.MULTILINE)
_OME = re.compile(rb"<(\w+:)?OME[\s>]")


def archive(source: Source) -> Identified | None:
    """What is to be unpacked. That it can be is the archive reader's to say."""
    head = source.read(0, min(source.size, 4096))
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Identified(Format.ZIP)
    if head[:3] == b"\x1f\x8b\x08":
        return Identified(Format.GZIP, details={"holds": "tar" if _is_tar(inflated(head, 512)) else "file"})
    if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head):
        return Identified(Format.BZIP2)
    if head[:6] == b"\xfd7zXZ\x00":
        return Identified(Format.XZ)
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return Identified(Format.ZSTD)
    return Identified(Format.TAR) if _is_tar(head[:512]) else None


def _is_tar(block: bytes) -> bool:
    return block[257:262] == b"ustar"


def slide_part(source: Source) -> Identified | None:
    """Zeiss CZI, Sakura (SQLite), and the index files of slides that are several files."""
    head = source.read(0, min(source.size, 8192))
    if head[:10] == b"ZISRAWFILE":
        return Identified(Format.ZEISS_CZI, "slide")
    if head[:16] == b"SQLite format 3\x00":
        return Identified(Format.SAKURA, "slide")
    if _VMS.match(head):
        needs = f"A Hamamatsu .vms or .vmu file is only the index of a slide; {_TOGETHER}."
        return Identified(Format.HAMAMATSU_INDEX, "slide", needs=needs)
    if _SLIDEDAT.match(head):
        needs = f"Slidedat.ini is only the index of a MIRAX slide; {_TOGETHER}, the .mrxs file too."
        return Identified(Format.MIRAX_INDEX, "slide", needs=needs)
    return None


def tiff(source: Source) -> Identified | None:
    """TIFF; whether it is a slide OpenSlide says later. Directories may lie at the end, beyond the head."""
    if not is_tiff(source.read(0, 4)):
        return None
    try:
        pages = read_pages(source)
    except BeyondHead:
        return Identified(Format.TIFF, details={"complete": False})
    return tiff_of(pages)


def tiff_of(pages: list[Page]) -> Identified:
    """What a TIFF of these images is, if it is no slide."""
    first = pages[0]
    details: dict[str, str | int | bool] = Picture(first.width, first.height, first.bits).details()
    details |= {"pages": len(pages), "tiled": first.tile is not None}
    if _OME.search(first.description):
        return Identified(Format.OME_TIFF, details=details | {"ome": True})
    if first.tile is None and not first.ndpi:
        checked(Picture(first.width, first.height, first.bits), "TIFF")
    elif first.width * first.height > 2**40:
        raise Invalid(f"The TIFF says {first.width:,} × {first.height:,} pixels; no slide is as large.")
    return Identified(Format.TIFF, details=details)
