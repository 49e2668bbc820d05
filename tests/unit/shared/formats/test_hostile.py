"""Files made to harm, or damaged: each is refused for what is wrong with it, from its header alone."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from shared.errors import HounsfieldError, Invalid, TooLarge, UnsupportedImage
from shared.formats.identify import identify
from tests.unit.shared.formats import samples
from tests.unit.shared.formats.test_identify import written


def tiff(
    *entries: tuple[int, int, int, int], after: int = 0, count: int | None = None, big: bool = False
) -> bytes:
    """A TIFF of one directory of (tag, type, count, value or place)."""
    if big:
        block = struct.pack("<Q", len(entries) if count is None else count)
        block += b"".join(struct.pack("<HHQQ", *entry) for entry in entries) + struct.pack("<Q", after)
        return b"II+\x00" + struct.pack("<HHQ", 8, 0, 16) + block + bytes(64)
    block = struct.pack("<H", len(entries) if count is None else count)
    block += b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", after)
    return b"II*\x00" + struct.pack("<I", 8) + block + bytes(64)


def chain(count: int) -> bytes:
    """A TIFF of `count` directories."""
    block = b"".join(
        struct.pack("<H", 5)
        + b"".join(struct.pack("<HHII", *entry) for entry in page())
        + struct.pack("<I", 8 + 66 * n)
        for n in range(1, count + 1)
    )
    return b"II*\x00" + struct.pack("<I", 8) + block


def page(width: int = 50, height: int = 40) -> tuple[tuple[int, int, int, int], ...]:
    return (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, 64)


def tiles(across: int, down: int, count: int, width: int = 50) -> tuple[tuple[int, int, int, int], ...]:
    return *page(width)[:3], (322, 4, 1, across), (323, 4, 1, down), (324, 4, count, 8), (325, 4, count, 8)


def png(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBB", 13, b"IHDR", width, height, bits, colour) + bytes(60)
    )


def jpeg(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + bytes(60)


NAN_DIRECTIONS = "(nan,0,0) (0,1,0) (0,0,1)"
HUGE = 2**40
HOSTILE: dict[str, tuple[bytes, type[HounsfieldError], str]] = {
    "a TIFF whose directory points at itself": (tiff(*page(), after=8), Invalid, "in a loop"),
    "a TIFF of 1,100 images": (chain(1100), TooLarge, "over 1,000 images"),
    "a TIFF whose directory lies beyond its end": (tiff(*page(), after=10**6), Invalid, "cut short"),
    "a TIFF without a directory": (b"II*\x00" + bytes(60), Invalid, "holds no image"),
    "a TIFF of 65,535 entries": (tiff(*page(), count=65535), Invalid, "65,535 entries"),
    "a BigTIFF of 2^60 entries": (tiff(*page(), count=2**60, big=True), Invalid, "entries; 1 to"),
    "a BigTIFF whose count overflows": (
        tiff(*page(), (330, 16, 2**62, 8), big=True),
        Invalid,
        "tag 330 says",
    ),
    "a TIFF with 2^32-1 strips": (tiff(*page()[:3], (273, 4, 2**32 - 1, 8)), Invalid, "tag 273 says"),
    "a TIFF of 0 pixels": (tiff(*page(0, 40)), Invalid, "0 × 40 pixels"),
    "a TIFF of 2^32 pixels an edge": (tiff(*page(2**32 - 1, 2**32 - 1)), Invalid, "are plausible"),
    "a TIFF bomb": (tiff(*page(200_000, 200_000)), TooLarge, "64 million"),
    "a TIFF of no strips": (tiff(*page()[:3]), Invalid, "neither strips nor tiles"),
    "a TIFF of tiles of 0 pixels": (tiff(*tiles(0, 64, 1)), Invalid, "tiles of 0 × 64"),
    "a TIFF of tiles of 2^31 pixels": (tiff(*tiles(2**31, 2**31, 1)), Invalid, "implausible"),
    "a TIFF that lacks tiles": (tiff(*tiles(16, 16, 2, 4000)), Invalid, "lists 2"),
    "a TIFF of 65,535 samples": (tiff(*page(), (277, 3, 1, 65535)), Invalid, "65535 samples"),
    "a BigTIFF of 4-byte places": (b"II+\x00\x04\x00\x00\x00" + bytes(60), Invalid, "8 bytes wide"),
    "a TIFF of 8 bytes": (b"II*\x00\x08", Invalid, "inside its header"),
    "a PNG bomb": (png(2**31 - 1, 2**31 - 1), TooLarge, "64 million"),
    "a PNG of 0 pixels": (png(0, 9), Invalid, "1 or more"),
    "a PNG of 3 bits": (png(9, 9, 3), Invalid, "3 bits of colour type 0"),
    "a PNG without a header": (b"\x89PNG\r\n\x1a\n", Invalid, "inside its header"),
    "a PNG that begins with text": (
        b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dtEXt" + bytes(60),
        Invalid,
        "IHDR",
    ),
    "a JPEG bomb": (jpeg(65535, 65535), TooLarge, "64 million"),
    "a JPEG of 0 pixels": (jpeg(0, 9), Invalid, "1 or more"),
    "a JPEG of endless segments": (b"\xff\xd8" + b"\xff\xe1\x00\x02" * 9000, Invalid, "segments"),
    "a JPEG with a segment shorter than its length": (
        b"\xff\xd8\xff\xe1\x00\x00" + bytes(99),
        Invalid,
        "shorter",
    ),
    "a JPEG cut short": (b"\xff\xd8\xff\xe1\xff\xff" + bytes(99), Invalid, "before its frame"),
    "a NIfTI of NaN": (samples.nifti(srow=np.full((3, 4), math.nan)), Invalid, "NaN or infinity"),
    "a NIfTI of 32767³": (samples.nifti(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), TooLarge, "the limit is"),
    "a NIfTI of negative size": (samples.nifti(dim=[3, -6, 5, 4, 1, 1, 1, 1]), Invalid, "1 or more"),
    "a NIfTI cut in its header": (samples.nifti()[:346], UnsupportedImage, "unknown type|text|zero"),
    "a NIfTI without voxels": (samples.nifti()[:352], Invalid, "too short"),
    "a gzip bomb that says it is NIfTI": (
        gzip.compress(samples.nifti(dim=[3, 2000, 2000, 500, 1, 1, 1, 1])),
        TooLarge,
        "the limit is",
    ),
    "an NRRD of NaN": (samples.nrrd(space_directions=NAN_DIRECTIONS), Invalid, "finite numbers"),
    "an NRRD of infinite origin": (samples.nrrd(space_origin="(inf,0,0)"), Invalid, "finite numbers"),
    "an NRRD whose size overflows": (samples.nrrd(sizes=f"{HUGE} {HUGE} {HUGE}"), Invalid, "no scanner"),
    "an NRRD of 10^1000 voxels": (samples.nrrd(sizes="1" + "0" * 1000 + " 5 4"), Invalid, "over 20 digits"),
    "an NRRD over the limit": (samples.nrrd(sizes="60000 60000 60000"), TooLarge, "the limit is"),
    "an NRRD of negative size": (samples.nrrd(sizes="-6 5 4"), Invalid, "1 or more"),
    "an NRRD of 0 size": (samples.nrrd(sizes="6 0 4"), Invalid, "1 or more"),
    "an NRRD without sizes": (samples.nrrd(sizes=None), Invalid, "lacks the field 'sizes'"),
    "an NRRD of other dimension": (samples.nrrd(dimension="4"), Invalid, "differ"),
    "an NRRD of flat axes": (samples.nrrd(space_directions="(1,0,0) (1,0,0) (0,0,1)"), Invalid, "degenerate"),
    "an NRRD of words for numbers": (
        samples.nrrd(space_directions="(a,b,c) (0,1,0) (0,0,1)"),
        Invalid,
        "numbers",
    ),
    "an NRRD in metres": (samples.nrrd(space_directions="(0.001,0,0) (0,1,0) (0,0,1)"), Invalid, "spacing"),
    "an NRRD in inches": (samples.nrrd(space_units='"in" "in" "in"'), UnsupportedImage, "not mm"),
    "an NRRD in scanner axes": (samples.nrrd(space="scanner-xyz"), UnsupportedImage, "how the patient lies"),
    "an NRRD as text": (samples.nrrd(encoding="ascii"), UnsupportedImage, "neither raw nor gzip"),
    "an NRRD that skips bytes": (samples.nrrd(byte_skip="-1"), UnsupportedImage, "skips"),
    "an NRRD of blocks": (samples.nrrd(type="block"), UnsupportedImage, "no integer"),
    "an NRRD without byte order": (samples.nrrd(endian=None), Invalid, "must say endian"),
    "an NRRD series": (
        samples.nrrd(sizes="6 5 2 2", dimension="4", space_directions="(1,0,0) (0,1,0) (0,0,1) none"),
        UnsupportedImage,
        "4 dimensions",
    ),
    "an NRRD without an end": (b"NRRD0004\ntype: int16\n" * 5000, Invalid, "does not end"),
    "an NRRD without voxels": (samples.nrrd(b""), Invalid, "too short"),
    "an MHA of NaN": (samples.mha(ElementSpacing="nan 1 1"), Invalid, "finite numbers"),
    "an MHA of negative spacing": (samples.mha(ElementSpacing="-1 1 1"), Invalid, "positive"),
    "an MHA over the limit": (samples.mha(DimSize="90000 90000 90000"), TooLarge, "the limit is"),
    "an MHA of 2 dimensions": (samples.mha(DimSize="6 5", NDims="2"), UnsupportedImage, "2D image"),
    "an MHA of vectors": (samples.mha(ElementNumberOfChannels="3"), UnsupportedImage, "vectors"),
    "an MHA as text": (samples.mha(BinaryData="False"), UnsupportedImage, "as text"),
    "an MHA with a skip": (samples.mha(HeaderSize="-1"), UnsupportedImage, "HeaderSize"),
    "an MHA of strings": (samples.mha(ElementType="MET_STRING"), UnsupportedImage, "no scalar"),
    "an MHA of a tube": (samples.mha(ObjectType="Tube"), UnsupportedImage, "no image"),
    "an MHA of a singular matrix": (
        samples.mha(TransformMatrix="0 0 0 0 0 0 0 0 0"),
        Invalid,
        "spacing is 0",
    ),
    "an MHA without an end": (b"ObjectType = Image\n" * 9000, Invalid, "does not end"),
    "an MHA without voxels": (samples.mha(b""), Invalid, "too short"),
    "an .e2e of its first header alone": (b"CMDb" + bytes(300), Invalid, "no directory"),
    "a DICOM file of its preamble alone": (bytes(128) + b"DICM", Invalid, "after its preamble"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_each_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content, outcome, says = HOSTILE[name]
    with pytest.raises(outcome, match=says) as refused:
        identify(written(tmp_path, content))
    assert len(refused.value.detail) < 400
