"""Is it DICOM, and of which class? From the file meta information, or the first elements where there is none."""

import re
import struct
from collections.abc import Iterator

from shared.errors import Invalid
from shared.formats.source import Source
from shared.formats.types import Format, Identified, Kind

_SOP_CLASS = (0x0002, 0x0002)
_ROOT = "1.2.840.10008.5.1.4.1.1."
_DICOMDIR = "1.2.840.10008.1.3.10"
_WSI = _ROOT + "77.1.6"
_KINDS: dict[str, Kind] = {
    _ROOT + "2": "ct",
    _ROOT + "2.1": "ct",
    _ROOT + "2.2": "ct",
    _ROOT + "4": "brain-mri",
    _ROOT + "4.1": "brain-mri",
    _ROOT + "4.4": "brain-mri",
    _ROOT + "77.1.5.4": "oct",
    _ROOT + "77.1.5.8": "oct",
    _WSI: "slide",
}
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_LARGEST_META = 16 * 2**10
_FIRST_TAGS = frozenset(
    {(0x0002, 0x0000), (0x0002, 0x0001), (0x0008, 0x0000), (0x0008, 0x0001), (0x0008, 0x0005)}
)
_FIRST_TAGS |= {(0x0008, element) for element in (0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018)}


def dicom(source: Source) -> Identified | None:
    """DICOM with its preamble, whatever that holds (some writers put a TIFF header into it)."""
    if source.read(128, 4) != b"DICM":
        return None
    return _from_meta(source.read(132, _LARGEST_META) if source.size > 132 else b"", preamble=True)


def bare_dicom(source: Source) -> Identified | None:
    """DICOM without a preamble, as older exports are. There is no magic: three plausible elements must do."""
    start = source.read(0, min(source.size, _LARGEST_META))
    if not _begins_like_a_dataset(start):
        return None
    return _from_meta(start, preamble=False)


def _from_meta(meta: bytes, preamble: bool) -> Identified:
    if len(meta) < 8:
        raise Invalid("The DICOM file ends after its preamble; send it again.")
    uid = next((value for tag, value in _elements(meta) if tag == _SOP_CLASS), b"")
    sop_class = uid.rstrip(b"\x00 ").decode("ascii", errors="replace")
    details: dict[str, str | int | bool] = {"preamble": preamble}
    if re.fullmatch(r"1\.2\.840\.10008\.[0-9.]{1,48}", sop_class):  # a private UID may name the hospital
        details["sop_class"] = sop_class
    if sop_class == _DICOMDIR:
        needs = "A DICOMDIR is only the index of other files; send it with them in one .zip or .tar.gz."
        return Identified(Format.DICOMDIR, details=details, needs=needs)
    found = Format.DICOM_WSI if sop_class == _WSI else Format.DICOM
    return Identified(found, _KINDS.get(sop_class), details=details)


def _elements(meta: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The explicit little-endian elements of group 2; ends at the first that does not fit."""
    at = 0
    while at + 8 <= len(meta):
        group, element = struct.unpack_from("<HH", meta, at)
        vr = meta[at + 4 : at + 6]
        if group != 2 or vr not in _VRS:
            return
        if vr in _LONG_VRS:
            if at + 12 > len(meta):
                return
            length, at = struct.unpack_from("<I", meta, at + 8)[0], at + 12
        else:
            length, at = struct.unpack_from("<H", meta, at + 6)[0], at + 8
        yield (group, element), meta[at : at + length]
        at += length


def _begins_like_a_dataset(start: bytes) -> bool:
    """Three elements in ascending order, explicit or implicit, the first one that datasets begin with."""
    return any(_ascending(start, order, explicit) for order in "<>" for explicit in (True, False))


def _ascending(start: bytes, order: str, explicit: bool) -> bool:
    at, last = 0, (0, 0)
    for _ in range(3):
        if at + 12 > len(start):
            return False
        tag = struct.unpack_from(f"{order}HH", start, at)
        if tag <= last or (at == 0 and tag not in _FIRST_TAGS) or tag[0] > 0x0010:
            return False
        last = (tag[0], tag[1])
        if explicit:
            vr = start[at + 4 : at + 6]
            if vr not in _VRS:
                return False
            long = vr in _LONG_VRS
            length = struct.unpack_from(f"{order}I" if long else f"{order}H", start, at + (8 if long else 6))[
                0
            ]
            at += (12 if long else 8) + length
        else:
            length = struct.unpack_from(f"{order}I", start, at + 4)[0]
            at += 8 + length
        if length % 2 or length > _LARGEST_META:
            return False
    return True
