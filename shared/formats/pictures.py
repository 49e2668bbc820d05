"""PNG and JPEG: width, height and depth from their headers, checked before any decoder sees the file."""

import struct
from dataclasses import dataclass

from shared.errors import Invalid, TooLarge
from shared.formats.source import Source
from shared.formats.types import Format, Identified

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
MAX_PIXELS = 64_000_000
"""The largest single picture (not slide) that is read: 8,000 × 8,000."""
MAX_JPEG_SEGMENTS = 2_000

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LENGTHLESS = frozenset(range(0xD0, 0xD9)) | {0x01}


@dataclass(frozen=True)
class Picture:
    """What a picture's header promises. bits: of one sample."""

    width: int
    height: int
    bits: int

    def details(self) -> dict[str, str | int | bool]:
        """As `Identified.details`."""
        return {"width": self.width, "height": self.height, "bits": self.bits}


def png(source: Source) -> Identified | None:
    """A PNG."""
    if source.read(0, 8) != PNG_MAGIC:
        return None
    return Identified(Format.PNG, details=png_header(source).details())


def jpeg(source: Source) -> Identified | None:
    """A JPEG."""
    if source.read(0, 3) != JPEG_MAGIC:
        return None
    return Identified(Format.JPEG, details=jpeg_header(source).details())


def png_header(source: Source) -> Picture:
    """The IHDR chunk of a PNG."""
    header = source.read(8, 25)
    if len(header) < 25:
        raise Invalid("The PNG ends inside its header; send it again.")
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", header)
    if (length, name) != (13, b"IHDR"):
        raise Invalid("The PNG does not begin with its IHDR chunk; the file is damaged.")
    if bits not in _PNG_DEPTHS.get(colour, ()):
        raise Invalid(f"The PNG says {bits} bits of colour type {colour}, which PNG does not have.")
    return checked(Picture(width, height, bits), "PNG")


def jpeg_header(source: Source) -> Picture:
    """The first frame header of a JPEG, found by walking its segments."""
    at = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        marker = source.read(at, 4)
        if len(marker) < 4:
            raise Invalid("The JPEG ends before its frame header; send it again.")
        if marker[0] != 0xFF:
            raise Invalid("The JPEG is damaged: a segment does not begin where the one before it ends.")
        if marker[1] == 0xFF or marker[1] in _LENGTHLESS:
            at += 1 if marker[1] == 0xFF else 2
            continue
        if marker[1] in (0xD9, 0xDA):
            raise Invalid("The JPEG has no frame header before its image data; the file is damaged.")
        if marker[1] in _FRAMES:
            frame = source.read(at + 4, 5)
            if len(frame) < 5:
                raise Invalid("The JPEG ends inside its frame header; send it again.")
            bits, height, width = struct.unpack(">BHH", frame)
            return checked(Picture(width, height, bits), "JPEG")
        length = int.from_bytes(marker[2:], "big")
        if length < 2:
            raise Invalid("The JPEG is damaged: a segment says that it is shorter than its own length field.")
        at += 2 + length
    raise Invalid(
        f"The JPEG has over {MAX_JPEG_SEGMENTS:,} segments before its image; it is no camera's file."
    )


def checked(picture: Picture, name: str) -> Picture:
    """`picture`, or why its size is refused."""
    if picture.width < 1 or picture.height < 1:
        raise Invalid(f"The {name} says {picture.width} × {picture.height} pixels; both must be 1 or more.")
    if picture.width * picture.height > MAX_PIXELS:
        raise TooLarge(
            f"The {name} has {picture.width:,} × {picture.height:,} pixels; "
            f"the limit for a single picture is {MAX_PIXELS / 1e6:g} million."
        )
    return picture
