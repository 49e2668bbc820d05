"""Frames of a held image, as they are stored."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import unpack

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.uid import UID

from functions.dicom.web.held_files import Held, open_held, read_held
from shared.errors import NotAcceptable, NotFound
from shared.imaging.dicom.instance import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, NATIVE
from shared.storage.port import Storage

BYTES = "application/octet-stream"
_JPEG, _JPEG_LS, _JPEG_2000, _HTJ2K = "image/jpeg", "image/jls", "image/jp2", "image/jphc"
MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.203": _HTJ2K,
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""PS3.18 tables 8.7.3-2 and 8.7.3-5."""


def media_type_of(transfer_syntax: str) -> str:
    """What a frame in this transfer syntax is."""
    return MEDIA_TYPES.get(transfer_syntax, BYTES)


@dataclass(frozen=True)
class Frames:
    """Where the frames of an open file lie. start: of the pixel data's value."""

    file: io.BufferedIOBase
    header: FileDataset
    start: int
    encapsulated: bool
    count: int

    def frame(self, number: int) -> bytes:
        """The frame of this number, from 1. Raises NotFound where the image has no such frame."""
        self.require(number)
        if not self.encapsulated:
            return self._native(number - 1)
        self.file.seek(self.start)
        offsets = None
        if "ExtendedOffsetTable" in self.header and "ExtendedOffsetTableLengths" in self.header:
            offsets = (self.header.ExtendedOffsetTable, self.header.ExtendedOffsetTableLengths)
        return get_frame(self.file, number - 1, number_of_frames=self.count, extended_offsets=offsets)

    def require(self, number: int) -> None:
        """Raise NotFound unless the image has this frame."""
        if not 1 <= number <= self.count:
            raise NotFound(f"the image has {self.count} frames; {number} is none of them")

    def all(self) -> Iterator[bytes]:
        """Every frame."""
        return (self.frame(number) for number in range(1, self.count + 1))

    def _native(self, index: int) -> bytes:
        image = self.header
        bits = image.Rows * image.Columns * int(image.get("SamplesPerPixel") or 1) * image.BitsAllocated
        if image.get("PhotometricInterpretation") == "YBR_FULL_422":
            bits = bits * 2 // 3
        if bits % 8 and self.count > 1:
            raise NotAcceptable("frames of single bits do not begin at bytes; retrieve the whole instance")
        size = (bits + 7) // 8
        self.file.seek(self.start + index * size)
        return self.file.read(size)


def open_frames(storage: Storage, held: Held) -> Frames:
    """The frames of a file that lies in storage. Raises NotFound for one without pixels."""
    instance = held[0]
    deflated = instance.transfer_syntax == DEFLATED
    file: io.BufferedIOBase = _inflated(read_held(storage, held)) if deflated else open_held(storage, held)
    header = dcmread(file, stop_before_pixels=True)
    implicit = instance.transfer_syntax == IMPLICIT
    head = file.read(8 if implicit else 12)
    tag = unpack(">HH" if instance.transfer_syntax == BIG_ENDIAN else "<HH", head[:4].ljust(4))
    if tag != (0x7FE0, 0x0010):
        raise NotFound("the instance has no pixel data in integers")
    return Frames(
        file=file,
        header=header,
        start=file.tell(),
        encapsulated=instance.transfer_syntax not in NATIVE,
        count=instance.frames,
    )


def _inflated(raw: bytes) -> io.BytesIO:
    """A deflated file as an explicit little-endian one."""
    target = io.BytesIO()
    dataset = dcmread(io.BytesIO(raw))
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    dataset.save_as(target, enforce_file_format=True)
    target.seek(0)
    return target


def numbers_in(text: str) -> Sequence[int]:
    """The frame numbers of a URL: `1,2,5`."""
    return [int(number) for number in text.split(",")]
