"""Reads the header of one DICOM file, whatever the file is: in bounded time and memory, and never the pixels."""

import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from shared.errors import TooLarge
from shared.imaging.dicom import deid_holds
from shared.imaging.dicom.elements import PIXELS, UNDEFINED, Bytes, DataSet, Walker, end_of_fragments
from shared.imaging.dicom.errors import DamagedDicom, NotDicom, UnsupportedDicom
from shared.imaging.dicom.frames import FRAME_TAGS, SEQUENCES, frame_values, read_frame
from shared.imaging.dicom.instance import (
    BIG_ENDIAN,
    DEFLATED,
    DIRECTORY,
    EXPLICIT,
    IMPLICIT,
    NATIVE,
    Instance,
    Pixels,
)
from shared.imaging.dicom.values import Values

MOST_INFLATED = 256 * 2**20
"""Of a deflated file; one CT slice has half a MiB."""
BLOCK = 2**20
MOST_FRAMES = 1_000_000
MOST_FRAGMENTS = 2_000_000

_META_TAGS = frozenset({0x00020002, 0x00020003, 0x00020010})
_TEXTS = {
    "patient_id": (0x00100020, 256),
    "issuer": (0x00100021, 256),
    "study_date": (0x00080020, 8),
    "acquisition_time": (0x00080032, 16),
    "study_description": (0x00081030, 256),
    "series_description": (0x0008103E, 256),
    "protocol": (0x00181030, 256),
    "sequence_name": (0x00180024, 64),
    "body_part": (0x00180015, 64),
    "kernel": (0x00181210, 64),
    "manufacturer": (0x00080070, 64),
    "patient_position": (0x00185100, 16),
}
"""Fields of an instance that are texts as they stand: of which element, and how many characters are kept."""
_TAGS = frozenset(tag for tag, _ in _TEXTS.values())
_TAGS |= {0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060}
_TAGS |= {0x00180010, 0x00180012, 0x00180020, 0x00180021, 0x00180023, 0x00180080, 0x00180081, 0x00180082}
_TAGS |= {0x00180086, 0x00181060, 0x00181120, 0x00181314, 0x00189087, 0x0020000D, 0x0020000E, 0x00200011}
_TAGS |= {0x00200012, 0x00200013, 0x00200052, 0x00200060, 0x00200062, 0x00200100, 0x00280002, 0x00280004}
_TAGS |= {0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280301}
_TAGS |= {0x00283000}
_HOLD_TAGS = frozenset(deid_holds.HELD_BY) | {deid_holds.ENCAPSULATED_DOCUMENT}
_HOLD_TAGS |= {group | number for group in deid_holds.OVERLAYS for number in (0x0102, 0x3000)}
WANTED = _TAGS | FRAME_TAGS | SEQUENCES | _HOLD_TAGS


def read_header(path: Path) -> Instance:
    """What the header of the file at `path` says.

    Raises NotDicom when the bytes are no DICOM; DamagedDicom when they break its encoding: cut off, lengths that
    are odd or pass the end, sequences that never end or nest too deep, floods of private elements, a byte order,
    character set, UID or number that cannot be; UnsupportedDicom for a transfer syntax that is not known.
    """
    with opened(path) as (data, start, syntax, meta):
        elements = _walk(data, start, syntax)
        return _instance(path, Values.of(data, elements, syntax == BIG_ENDIAN), syntax, meta)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Bytes, int, str, Values]]:
    """The bytes of the file at `path` (inflated), where its data set starts, its transfer syntax and the
    file's meta information. Errors as `read_header`."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise NotDicom("The file is empty.") from None
        with data:
            start, syntax, meta = _meta(data)
            if syntax == DEFLATED:
                with _inflated(data, start) as inflated:
                    yield inflated, 0, syntax, meta
            else:
                yield data, start, syntax, meta


def _meta(data: mmap.mmap) -> tuple[int, str, Values]:
    """Where the data set starts, the transfer syntax, and the elements of group 2."""
    at = 132
    if data[128:132] != b"DICM":
        at = 0
        if not _plainly_dicom(data[:8]):
            raise NotDicom("The file has neither DICOM's preamble nor begins with elements of group 2 or 8.")
    if data[at : at + 2] != b"\x02\x00":
        return at, _guess_syntax(data, at), Values(data, {}, False, ("iso8859",))
    end = _meta_end(data, at)
    meta = Values(data, Walker(data, _META_TAGS).data_set(at, end), False, ("iso8859",))
    return end, meta.uid(0x00020010) or _guess_syntax(data, end), meta


def _plainly_dicom(start: bytes) -> bool:
    """Whether the bytes are an element of group 2 or 8 as every DICOM file without preamble begins."""
    if len(start) < 8 or start[1] != 0 or start[0] not in (2, 8) or start[3] != 0:
        return False
    short_implicit = start[5:8] == b"\0\0\0" and start[4] % 2 == 0
    return start[4:6] in (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO") or short_implicit


def _guess_syntax(data: mmap.mmap, at: int) -> str:
    """The encoding of a data set that is not introduced."""
    head = data[at : at + 6]
    if len(head) < 6:
        raise DamagedDicom("The file ends before its data set.")
    return EXPLICIT if head[4:6].isalpha() and head[4:6].isupper() else IMPLICIT


def _meta_end(data: mmap.mmap, at: int) -> int:
    """Where the elements of group 2 end. Their stated length (0002,0000) is often wrong, so they are walked."""
    walker = Walker(data, ())
    while data[at : at + 2] == b"\x02\x00":
        at = walker.step(at)
    return at


def _walk(data: Bytes, start: int, syntax: str) -> DataSet:
    """The wanted elements of the data set at `start`."""
    if not syntax.startswith("1.2.840.10008.1.2"):
        raise UnsupportedDicom("The transfer syntax is not one of DICOM's own.")
    head = data[start : start + 2]
    if len(head) == 2 and bool(head[0]) == (syntax == BIG_ENDIAN) and bool(head[1]) != (syntax == BIG_ENDIAN):
        raise DamagedDicom("The data set is in the other byte order than the transfer syntax states.")
    return Walker(data, WANTED, implicit=syntax == IMPLICIT, big=syntax == BIG_ENDIAN).data_set(start)


def _inflated(data: mmap.mmap, start: int) -> mmap.mmap:
    """The deflated data set at `start`, inflated twice so that it is never held twice.

    Raises TooLarge as soon as it passes the limit.
    """
    size = sum(len(piece) for piece in _inflate(data, start))
    if not size:
        raise DamagedDicom("The deflated data set is empty.")
    inflated = mmap.mmap(-1, size)
    for piece in _inflate(data, start):
        inflated.write(piece)
    return inflated


def _inflate(data: mmap.mmap, start: int) -> Iterator[bytes]:
    """What is deflated at `start`, in pieces."""
    stream, size, at = zlib.decompressobj(-zlib.MAX_WBITS), 0, start
    try:
        while not stream.eof:
            block = stream.unconsumed_tail or data[at : at + BLOCK]
            if not stream.unconsumed_tail:
                at += len(block)
            piece = stream.decompress(block, BLOCK)
            if not piece and not block:
                raise DamagedDicom("The deflated data set is cut off.")
            size += len(piece)
            if size > MOST_INFLATED:
                raise TooLarge(
                    f"The deflated data set has more than {MOST_INFLATED >> 20} MiB; the limit protects against bombs."
                )
            yield piece
    except zlib.error as error:
        raise DamagedDicom("The deflated data set is damaged.") from error


def _instance(path: Path, of: Values, syntax: str, meta: Values) -> Instance:
    sop_class = of.uid(0x00080016) or meta.uid(0x00020002)
    if not sop_class:
        raise DamagedDicom("The header names no SOP class (0008,0016), so it does not say what the file is.")
    pixels = None if sop_class == DIRECTORY else _pixels(of, syntax)
    planes = frame_values(of, sop_class, pixels.frames) if pixels else []
    frames = tuple(read_frame(number, plane) for number, plane in enumerate(planes))
    plane = planes[0] if planes else of
    inversion = of.number(0x00180082)
    return Instance(
        path=path,
        size=path.stat().st_size,
        transfer_syntax=syntax,
        sop_class=sop_class,
        sop_uid=of.uid(0x00080018) or meta.uid(0x00020003),
        study_uid=of.uid(0x0020000D),
        series_uid=of.uid(0x0020000E),
        frame_of_reference=of.uid(0x00200052),
        modality=of.text(0x00080060).upper()[:16],
        pixels=pixels,
        frames=frames,
        image_type=tuple(part.upper() for part in of.texts(0x00080008)[:16]),
        series_number=of.whole(0x00200011),
        acquisition_number=of.whole(0x00200012),
        instance_number=of.whole(0x00200013),
        time_index=of.whole(0x00200100),
        trigger_ms=of.number(0x00181060),
        b_value=of.double(0x00189087),
        contrast_agent=(of.text(0x00180010) or _contrast_code(of))[:128],
        laterality=(of.text(0x00200062) or of.text(0x00200060)).upper()[:1],
        scanning_sequence=of.texts(0x00180020)[:8],
        sequence_variant=of.texts(0x00180021)[:8],
        acquisition_type=of.text(0x00180023).upper()[:8],
        gantry_tilt_deg=of.number(0x00181120),
        repetition_ms=plane.number(0x00180080),
        echo_ms=frames[0].echo_ms if frames else of.number(0x00180081),
        echo_number=of.whole(0x00180086),
        inversion_ms=plane.double(0x00189079) if inversion is None else inversion,
        flip_deg=plane.number(0x00181314),
        burned_in=of.text(0x00280301).upper()[:4],
        holds=_holds(of, sop_class),
        document=deid_holds.document(sop_class, of.elements),
        **{field: of.text(tag)[:most] for field, (tag, most) in _TEXTS.items()},
    )


def _holds(of: Values, sop_class: str) -> tuple[deid_holds.Hold, ...]:
    values = {tag: of.text(tag) for tag in deid_holds.HELD_BY if tag in of.elements}
    embedded = deid_holds.is_overlay_in_pixels(of.elements)
    return deid_holds.holds({**values, deid_holds.SOP_CLASS: sop_class}, embedded)


def _contrast_code(of: Values) -> str:
    """Enhanced files name the agent by a coded sequence (0018,0012)."""
    return "coded" if of.items(0x00180012) else ""


def _pixels(of: Values, syntax: str) -> Pixels | None:
    """How the pixels are stored; None when there are none. Raises DamagedDicom when that cannot be so."""
    tag = next((tag for tag in PIXELS if tag in of.elements), None)
    rows, columns = of.short(0x00280010), of.short(0x00280011)
    if rows is None or columns is None:
        return None
    if tag is None:
        raise DamagedDicom(
            f"The header describes an image of {rows} × {columns} pixels, but no pixels follow."
        )
    where = of.elements[tag]
    frames = of.whole(0x00280008)
    frames = 1 if frames is None and not of.texts(0x00280008) else frames
    if frames is None or not 0 < frames <= MOST_FRAMES or not rows or not columns:
        raise DamagedDicom(
            f"The image has {rows} rows, {columns} columns and {frames} frames; each must be at least 1 and there "
            f"may be {MOST_FRAMES:,} frames."
        )
    length = None if where.length == UNDEFINED else where.length
    _check_encapsulation(length, syntax)
    pixels = Pixels(
        rows=rows,
        columns=columns,
        frames=frames,
        samples=of.short(0x00280002) or 1,
        bits_allocated=of.short(0x00280100) or 0,
        bits_stored=of.short(0x00280101) or of.short(0x00280100) or 0,
        signed=of.short(0x00280103) == 1,
        photometric=of.text(0x00280004).upper()[:16],
        start=where.start,
        length=length,
        floating=tag != 0x7FE00010,
        lookup=bool(of.items(0x00283000)),
        head=_head_of(of.data, tag, where.start, syntax),
        end=end_of_fragments(of.data, where.start, MOST_FRAGMENTS)
        if length is None
        else where.start + length,
        high_bit=of.short(0x00280102),
    )
    _check_length(pixels)
    return pixels


def _head_of(data: Bytes, tag: int, start: int, syntax: str) -> int:
    """Where the element `tag` begins whose value is at `start`: 8 or 12 bytes before it."""
    order: Literal["big", "little"] = "big" if syntax == BIG_ENDIAN else "little"
    begins = (tag >> 16).to_bytes(2, order) + (tag & 0xFFFF).to_bytes(2, order)
    length = 8 if syntax == IMPLICIT or data[start - 12 : start - 8] != begins else 12
    return start - length


def _check_encapsulation(length: int | None, syntax: str) -> None:
    if (length is None) == (syntax in NATIVE):
        raise DamagedDicom(
            "Whether the pixels are compressed and what the transfer syntax says do not agree."
        )


def _check_length(pixels: Pixels) -> None:
    """Whether as many bytes follow as the header promises."""
    if pixels.length is None:
        return
    bits = pixels.rows * pixels.columns * pixels.frames * pixels.samples * pixels.bits_allocated
    if pixels.photometric == "YBR_FULL_422":
        bits = bits * 2 // 3
    if pixels.length < (bits + 7) // 8:
        raise DamagedDicom(
            f"The pixel data has {pixels.length:,} bytes; the header promises {(bits + 7) // 8:,}."
        )
