"""Whatever the bytes say, a header is read or refused with its reason: soon, and with little memory."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from shared.errors import HounsfieldError
from shared.imaging.dicom.errors import DamagedDicom, NotDicom, UnsupportedDicom
from shared.imaging.dicom.headers import read_header
from tests.unit.shared.imaging.dicom.builders import make_enhanced, save

META = bytes(128) + b"DICM\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
SOP = b"\x08\x00\x16\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0"


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit element that claims `length` bytes."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    wide = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (struct.pack("<HL", 0, size) if wide else struct.pack("<H", size)) + value


def item(content: bytes, length: int = 0xFFFFFFFF) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", length) + content


SEQUENCE_END, ITEM_END = b"\xfe\xff\xdd\xe0" + bytes(4), b"\xfe\xff\x0d\xe0" + bytes(4)
IMAGE = (
    element(0x00280002, b"US", b"\1\0")
    + element(0x00280004, b"CS", b"MONOCHROME2 ")
    + element(0x00280010, b"US", b"\x02\0")
    + element(0x00280011, b"US", b"\x02\0")
    + element(0x00280100, b"US", b"\x10\0")
)
PIXELS = element(0x7FE00010, b"OW", bytes(8))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = element(0x00081140, b"SQ", item(inner + ITEM_END) + SEQUENCE_END, 0xFFFFFFFF)
    return inner


def endless(depth: int) -> bytes:
    return b"".join(element(0x00081140, b"SQ", item(b""), 0xFFFFFFFF) for _ in range(depth))


def sized(**numbers: int) -> bytes:
    """An image whose size is as stated, with eight bytes of pixels."""
    rows, columns = numbers.get("rows", 2), numbers.get("columns", 2)
    frames = numbers.get("frames")
    return (
        element(0x00280002, b"US", b"\1\0")
        + (element(0x00280008, b"IS", f"{frames:<12}".encode()) if frames is not None else b"")
        + element(0x00280010, b"US", struct.pack("<H", rows))
        + element(0x00280011, b"US", struct.pack("<H", columns))
        + element(0x00280100, b"US", b"\x10\0")
        + PIXELS
    )


HOSTILE: dict[str, tuple[type[HounsfieldError], str, bytes]] = {
    "nothing": (NotDicom, "empty", b""),
    "a picture": (NotDicom, "neither", b"\x89PNG\r\n\x1a\n" + bytes(200)),
    "text": (NotDicom, "neither", b"Dear colleague, " * 20),
    "zeros": (NotDicom, "neither", bytes(5000)),
    "a preamble alone": (DamagedDicom, "ends", bytes(128) + b"DICM"),
    "meta information cut off": (DamagedDicom, "ends|says", META[:-8]),
    "meta information alone": (DamagedDicom, "SOP class", META),
    "two gigabytes claimed": (
        DamagedDicom,
        "2,147,483,648",
        META + SOP + element(0x00091001, b"OB", b"", 2**31),
    ),
    "a negative length": (
        DamagedDicom,
        "4,294,967,294",
        META + SOP + element(0x00091001, b"OB", b"", 2**32 - 2),
    ),
    "two gigabytes of pixels": (
        DamagedDicom,
        "says that it has",
        META + SOP + IMAGE + element(0x7FE00010, b"OW", b"", 2**31),
    ),
    "an odd length": (DamagedDicom, "odd", META + SOP + element(0x00081030, b"LO", b"abc")),
    "a value without length": (
        DamagedDicom,
        "no sequence",
        META + SOP + element(0x00091001, b"OB", b"", 2**32 - 1),
    ),
    "a sequence without end": (DamagedDicom, "ends", META + SOP + element(0x00081140, b"SQ", b"", 2**32 - 1)),
    "an item without end": (
        DamagedDicom,
        "never ends",
        META + SOP + element(0x00081140, b"SQ", item(SOP), 2**32 - 1),
    ),
    "sequences 5,000 deep": (DamagedDicom, "deep", META + SOP + nested(60)),
    "sequences that only open": (DamagedDicom, "deep", META + SOP + endless(20000)),
    "an item longer than its sequence": (
        DamagedDicom,
        "says",
        META + SOP + element(0x52009230, b"SQ", item(b"", 4000)),
    ),
    "no item in a sequence": (
        DamagedDicom,
        "no item",
        META + SOP + element(0x00081140, b"SQ", SOP, 2**32 - 1),
    ),
    "a stray delimiter": (DamagedDicom, "outside", META + SOP + ITEM_END),
    "30,000 private elements": (
        DamagedDicom,
        "private",
        META + SOP + b"".join(element(0x00091000 + n % 256, b"LO", b"") for n in range(30000)),
    ),
    "a million elements": (
        DamagedDicom,
        "more than 1,000,000",
        META + SOP + element(0x00081030, b"LO", b"") * 1_000_001,
    ),
    "the other byte order": (
        DamagedDicom,
        "byte order",
        META + b"\x00\x08\x00\x16UI\x00\x1a1.2.840.10008.5.1.4.1.1.2\0",
    ),
    "implicit though explicit is stated": (
        DamagedDicom,
        "encoding",
        META + b"\x08\x00\x16\x00" + struct.pack("<L", 26) + b"1.2.840.10008.5.1.4.1.1.2\0",
    ),
    "an unknown character set": (
        DamagedDicom,
        "character set",
        META + element(0x00080005, b"CS", b"KLINGON ") + SOP,
    ),
    "a UID that is none": (
        DamagedDicom,
        "no UID",
        META + SOP + element(0x0020000D, b"UI", b"1.2/../etc/passwd "),
    ),
    "a UID of 200 digits": (DamagedDicom, "no UID", META + SOP + element(0x0020000D, b"UI", b"1" * 200)),
    "a megabyte for a number": (
        DamagedDicom,
        "more than such",
        META + SOP + element(0x00280010, b"UN", bytes(2**20)) + PIXELS,
    ),
    "a transfer syntax of its own": (
        UnsupportedDicom,
        "transfer syntax",
        META.replace(b"1.2.840.10008.1.2.1\0", b"9.9.840.10008.1.2.1\0") + SOP,
    ),
    "no rows": (DamagedDicom, "at least 1", META + SOP + sized(rows=0)),
    "a negative number of frames": (DamagedDicom, "at least 1", META + SOP + sized(frames=-1)),
    "2 billion frames": (DamagedDicom, "frames", META + SOP + sized(frames=2_000_000_000)),
    "65,535² pixels in eight bytes": (
        DamagedDicom,
        "promises",
        META + SOP + sized(rows=65535, columns=65535),
    ),
    "pixels whose number overflows 64 bits": (
        DamagedDicom,
        "promises",
        META + SOP + sized(rows=65535, columns=65535, frames=999_999),
    ),
    "compressed pixels that are not said to be": (
        DamagedDicom,
        "do not agree",
        META + SOP + IMAGE + element(0x7FE00010, b"OB", item(b"", 0) + SEQUENCE_END, 2**32 - 1),
    ),
    "a position that is not a number": (
        DamagedDicom,
        "finite",
        META + SOP + element(0x00200032, b"DS", b"0\\nan\\0 ") + IMAGE + PIXELS,
    ),
    "an infinite position": (
        DamagedDicom,
        "finite",
        META + SOP + element(0x00200032, b"DS", b"0\\1e999\\0 ") + IMAGE + PIXELS,
    ),
    "two directions that are one": (
        DamagedDicom,
        "right angles",
        META + SOP + element(0x00200037, b"DS", b"1\\0\\0\\1\\0\\0 ") + IMAGE + PIXELS,
    ),
    "a slope of nothing": (
        DamagedDicom,
        "is 0",
        META + SOP + IMAGE + element(0x00281053, b"DS", b"0 ") + PIXELS,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    kind, reason, content = HOSTILE[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    begun = time.process_time()
    with pytest.raises(kind, match=reason):
        read_header(path)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("name", [name for name, (*_, content) in HOSTILE.items() if len(content) < 2**20])
def test_a_refusal_takes_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(HOSTILE[name][2])
    tracemalloc.start()
    try:
        with suppress(HounsfieldError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_cut_off_anywhere_is_refused_or_has_no_image(tmp_path: Path) -> None:
    whole = save(make_enhanced([(0, 0, 2.0 * k) for k in range(3)]), tmp_path / "whole").read_bytes()
    read = []
    for length in range(0, len(whole), 7):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        with suppress(HounsfieldError):
            read.append(read_header(path))
    assert len(read) < 10 and not any(header.pixels for header in read)


def _with_damage(make: Callable[[], bytes]) -> st.SearchStrategy[bytes]:
    whole = make()
    places = st.lists(
        st.tuples(st.integers(132, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )

    def damaged(changes: list[tuple[int, int]]) -> bytes:
        content = bytearray(whole)
        for at, byte in changes:
            content[at] = byte
        return bytes(content)

    return places.map(damaged)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.fixture(scope="module")
def sound(scratch: Path) -> bytes:
    return save(make_enhanced([(0, 0, 2.0 * k) for k in range(3)]), scratch).read_bytes()


@given(data=st.data())
def test_damage_anywhere_ends_in_a_header_or_a_refusal(
    data: st.DataObject, scratch: Path, sound: bytes
) -> None:
    scratch.write_bytes(data.draw(_with_damage(lambda: sound)))
    with suppress(HounsfieldError):
        assert read_header(scratch).sop_class
