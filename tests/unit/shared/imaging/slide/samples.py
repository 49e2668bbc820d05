"""Small slides of every vendor whose TIFF OpenSlide reads, written byte by byte so that they may be wrong too."""

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

ASCII, SHORT, LONG, RATIONAL, BYTE, UNDEFINED, SLONG, FLOAT, LONG8 = 2, 3, 4, 5, 1, 7, 9, 11, 16
CODES = {BYTE: "B", ASCII: "B", UNDEFINED: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SLONG: "i", FLOAT: "f"}
CODES |= {LONG8: "Q"}
NAME = b"DOE^JANE"
SECRETS = (NAME, b"19540312", b"MRN-77-1234", b"SN-4711")
"""What no cleaned slide may hold."""
SECRET = b" ".join(SECRETS)

Pixels = NDArray[np.uint8]
Pieces = list[tuple[int, int]]
Tags = Mapping[int, tuple[int, object]]


def tissue(height: int, width: int, seed: int = 0) -> Pixels:
    """(H, W, 3) uint8, smooth and different everywhere."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / (9 + band) + seed) * np.cos(y / (11 + band)) for band in range(3)]
    return np.asarray(np.stack(waves, axis=-1), dtype=np.uint8)


def label(height: int = 40, width: int = 60) -> Pixels:
    """A picture whose bytes are found nowhere else."""
    return np.random.default_rng(7).integers(0, 255, (height, width, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Image:
    """One directory. tile: None for strips. pieces: in place of its own pixels, places and sizes to name."""

    pixels: Pixels
    tile: int | None = 64
    tags: Tags = field(default_factory=dict)
    jpeg: bool = False
    pieces: Pieces | None = None
    comment: bytes = b""


@dataclass(frozen=True)
class Written:
    """The file, where each image's pixels lie in it, and where its directory lies."""

    data: bytes
    pieces: list[Pieces]
    directories: list[int]

    def pixels_of(self, number: int) -> list[bytes]:
        """The compressed tiles or strips of an image."""
        return [self.data[start : start + length] for start, length in self.pieces[number]]


def tiff(
    images: Sequence[Image], big: bool = False, ndpi: bool = False, loop: bool = False, shift: int = 0
) -> Written:
    """A little-endian TIFF: each image's pixels, values and directory, one after the other.

    shift: how much further on all but the header will be put (NDPI).
    """
    wide = big or ndpi
    out = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else b"II*\x00" + bytes(8))
    link, all_pieces, directories = (8 if big else 4), [], []
    for image in images:
        pieces = image.pieces
        own: Pieces = []
        for data in _compressed(image):
            own.append((len(out), len(data)))
            out += data
        all_pieces.append(own)
        place = _write_directory(out, _tags(image, pieces or own), big, ndpi, shift)
        directories.append(place)
        out[link : link + (8 if wide else 4)] = struct.pack("<Q" if wide else "<I", place + shift)
        link = _link_of(out, place, big)
    if loop:
        out[link : link + (8 if wide else 4)] = struct.pack("<Q" if wide else "<I", directories[0])
    return Written(bytes(out), all_pieces, directories)


def _link_of(out: bytearray, place: int, big: bool) -> int:
    count = int.from_bytes(out[place : place + (8 if big else 2)], "little")
    return place + (8 + 20 * count if big else 2 + 12 * count)


def _write_directory(out: bytearray, tags: Tags, big: bool, ndpi: bool, shift: int) -> int:
    rows = high = b""
    for tag in sorted(tags):
        kind, value = tags[tag]
        numbers = list(value) if isinstance(value, (bytes, list, tuple)) else [value]
        data = struct.pack(f"<{len(numbers)}{CODES[kind]}", *numbers)
        count = len(numbers) // 2 if kind == RATIONAL else len(numbers)
        place = int(numbers[0]) + shift if tag == 273 else 0
        if len(data) > (8 if big else 4):
            place = len(out) + shift
            out += data + bytes(len(data) % 2)
        if place:
            data = struct.pack("<Q" if big else "<I", place if big else place & 0xFFFFFFFF)
        rows += struct.pack("<HHQ" if big else "<HHI", tag, kind, count) + data.ljust(
            8 if big else 4, b"\x00"
        )
        high += struct.pack("<I", place >> 32)
    out += bytes(len(out) % 2)
    directory = len(out)
    out += struct.pack("<Q" if big else "<H", len(tags)) + rows + bytes(8 if big or ndpi else 4)
    out += high if ndpi else b""
    return directory


def _tags(image: Image, pieces: Pieces) -> Tags:
    height, width = image.pixels.shape[:2]
    tags: dict[int, tuple[int, object]] = {
        256: (LONG, width),
        257: (LONG, height),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, 7 if image.jpeg else 1),
        262: (SHORT, 6 if image.jpeg else 2),
        277: (SHORT, 3),
    }
    starts, sizes = [start for start, _ in pieces], [size for _, size in pieces]
    if image.tile:
        tags |= {322: (SHORT, image.tile), 323: (SHORT, image.tile)}
        tags |= {324: (LONG, starts), 325: (LONG, sizes)}
    else:
        tags |= {273: (LONG, starts), 278: (LONG, height), 279: (LONG, sizes)}
    return {**tags, **image.tags}


def _compressed(image: Image) -> list[bytes]:
    if not image.tile:
        return [_encoded(image.pixels, image)]
    found = []
    height, width = image.pixels.shape[:2]
    for top in range(0, height, image.tile):
        for left in range(0, width, image.tile):
            tile = np.zeros((image.tile, image.tile, 3), dtype=np.uint8)
            part = image.pixels[top : top + image.tile, left : left + image.tile]
            tile[: part.shape[0], : part.shape[1]] = part
            found.append(_encoded(tile, image))
    return found


def _encoded(pixels: Pixels, image: Image) -> bytes:
    return jpeg(pixels, image.comment) if image.jpeg else pixels.tobytes()


def jpeg(pixels: Pixels, comment: bytes = b"", **options: object) -> bytes:
    """A JPEG of full colour resolution."""
    buffer = io.BytesIO()
    options |= {"comment": comment} if comment else {}
    Picture.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def text(content: str | bytes) -> tuple[int, bytes]:
    """A value of text."""
    return ASCII, (content.encode() if isinstance(content, str) else content) + b"\x00"


IDENTIFYING: Tags = {
    269: text(SECRET),
    271: text(SECRET),
    306: text("1954:03:12 10:00:00"),
    315: text(SECRET),
    316: text(SECRET),
    33432: text(SECRET),
    33723: (BYTE, SECRET),
    34377: (BYTE, SECRET),
    37510: (UNDEFINED, SECRET),
    65000: text(SECRET),
}
"""Tags that name people and machines, and a private one."""
SUBSAMPLED: Tags = {530: (SHORT, [1, 1])}


def aperio(big: bool = False, jpeg: bool = True, **more: Image) -> Written:
    """Two levels, thumbnail, label and macro, as Aperio orders them."""
    said = (
        "Aperio Image Library v12.0.15\r\n200x150 [0,0 200x150] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
        f"|Filename = {NAME.decode()}|User = MRN-77-1234|Date = 03/12/54|ScanScope ID = SN-4711"
        f"|Title = {SECRET.decode()}|ImageID = 19540312|MPP2 = 3|Left = 1.5"
    )
    whole = tissue(150, 200)
    description = {270: text(said)}
    small = {254: (LONG, 1)}
    tags = {**IDENTIFYING, **(SUBSAMPLED if jpeg else {})}
    images = {
        "level 0": Image(whole, 64, {**tags, **description}, jpeg, comment=SECRET),
        "thumbnail": Image(whole[::4, ::4], None, {**description}),
        "level 1": Image(whole[::2, ::2], 64, {**tags, **description}, jpeg, comment=SECRET),
        "label": Image(
            label(), None, {**small, 270: text(f"Aperio Image Library v12\r\nlabel 60x40 {NAME.decode()}")}
        ),
        "macro": Image(
            label(30, 80), None, {254: (LONG, 9), 270: text("Aperio Image Library v12\r\nmacro 80x30")}
        ),
    }
    return tiff(list((images | more).values()), big)


def generic(big: bool = True, description: str = "") -> Written:
    """Two levels and a strip image, which OpenSlide takes for nothing. 0.25 µm per pixel."""
    whole = tissue(150, 200, 1)
    scale = {282: (RATIONAL, [40000, 1]), 283: (RATIONAL, [40000, 1]), 296: (SHORT, 3)}
    first = {**scale, **IDENTIFYING, 270: text(description or SECRET)}
    return tiff(
        [
            Image(whole, 64, first),
            Image(whole[::2, ::2], 64, {254: (LONG, 1), 270: text(SECRET)}),
            Image(label(), None),
        ],
        big,
    )


def ndpi(far: int = 0) -> Written:
    """Two levels, macro and map. 0.5 µm per pixel. far: the place where all but the first 12 bytes is meant to lie."""
    whole = tissue(128, 256, 2)
    scale = {282: (RATIONAL, [20000, 1]), 283: (RATIONAL, [20000, 1]), 296: (SHORT, 3)}

    def page(pixels: Pixels, lens: float) -> Image:
        private = {
            65420: (LONG, 1),
            65421: (FLOAT, lens),
            65422: (SLONG, 7),
            65423: (SLONG, 8),
            65424: (SLONG, 0),
        }
        texts = {
            65427: text(SECRET),
            65428: (BYTE, SECRET),
            65442: text(b"SN-4711"),
            65449: text(b"Name=" + SECRET),
        }
        return Image(
            pixels, None, {**IDENTIFYING, **SUBSAMPLED, **scale, **private, **texts}, True, comment=SECRET
        )

    images = [page(whole, 20), page(np.ascontiguousarray(whole[::2, ::2]), 10)]
    images += [page(label(), -1), page(label(30, 80), -2)]
    return tiff(images, ndpi=True, shift=max(0, far - 12))


LEICA = "http://www.leica-microsystems.com/scn/2010/10/01"


def leica(parts: int = 1) -> Written:
    """The macro image first, whose directory holds the XML, then `parts` images of two levels."""
    secret = SECRET.decode()

    def xml_image(number: int) -> str:
        return (
            f'<image name="{secret}" uuid="{NAME.decode()}"><creationDate>1954-03-12</creationDate>'
            f'<device model="{secret}" version="SN-4711"/><pixels sizeX="200" sizeY="150">'
            f'<dimension sizeX="200" sizeY="150" r="0" ifd="{1 + 2 * number}"/>'
            f'<dimension sizeX="100" sizeY="75" r="1" ifd="{2 + 2 * number}"/></pixels>'
            f'<view sizeX="100000" sizeY="75000" offsetX="{1000 + number}" offsetY="2000"/>'
            "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
            "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
            f"</illuminationSettings></scanSettings></image>"
        )

    macro = (
        '<image name="macro"><pixels sizeX="80" sizeY="64"><dimension sizeX="80" sizeY="64" ifd="0"/></pixels>'
        '<view sizeX="300000" sizeY="200000" offsetX="0" offsetY="0"/><scanSettings><objectiveSettings>'
        "<objective>1</objective></objectiveSettings><illuminationSettings><illuminationSource>brightfield"
        "</illuminationSource></illuminationSettings></scanSettings></image>"
    )
    xml = (
        f'<?xml version="1.0"?><scn xmlns="{LEICA}" uuid="{secret}"><collection name="{secret}" sizeX="300000" '
        f'sizeY="200000"><barcode>{secret}</barcode>{macro}{"".join(map(xml_image, range(parts)))}</collection></scn>'
    )
    whole = tissue(150, 200, 3)
    scale = {282: (RATIONAL, [20000, 1]), 283: (RATIONAL, [20000, 1]), 296: (SHORT, 3)}
    images = [Image(label(64, 80), 64, {270: text(xml), 305: text(SECRET)})]
    for _ in range(parts):
        images += [Image(whole, 64, {**scale, **IDENTIFYING}), Image(whole[::2, ::2], 64, dict(scale))]
    return tiff(images, big=True)


def ventana(bif: bool = True, change: tuple[bytes, bytes] = (b"", b"")) -> Written:
    """The label first, whose XMP says that it is Ventana's, a thumbnail, then two levels of 2 × 2 tiles."""
    secret = SECRET.decode()
    scanner = (
        f'<iScan Magnification="20" ScanRes="0.465" Z-layers="1" Barcode1D="{secret}" UnitNumber="SN-4711" '
        f'UserName="{NAME.decode()}" ScanDate="19540312"><AOI0 Left="1"/></iScan>'
    )
    joints = "".join(
        f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{way}" Tile1="{one}" Tile2="{two}" OverlapX="0" '
        'OverlapY="0"/>'
        for way, one, two in (("RIGHT", 1, 2), ("RIGHT", 4, 3), ("UP", 1, 4), ("UP", 2, 3))
    )
    stitched = (
        f'<EncodeInfo Ver="2"><SlideInfo><LabelImage>{secret}</LabelImage></SlideInfo><SlideStitchInfo>'
        '<ImageInfo AOIScanned="1" AOIIndex="0" Width="64" Height="64" NumRows="2" NumCols="2" Pos-X="0" Pos-Y="0" '
        f'Name="{secret}">{joints}</ImageInfo></SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin>'
        "</EncodeInfo>"
    )
    whole = tissue(128, 128, 4)
    small = np.zeros((64, 64, 3), dtype=np.uint8)
    small[:] = whole[::2, ::2]
    xmp = {700: (BYTE, stitched.encode().replace(*change))} if bif else {}
    return tiff(
        [
            Image(label(), None, {**IDENTIFYING, 270: text("Label_Image"), 700: (BYTE, scanner.encode())}),
            Image(label(30, 80), None, {270: text("Thumbnail")}),
            Image(
                whole,
                64,
                {**IDENTIFYING, **xmp, 270: text(f"level=0 mag=20 quality=95 name={NAME.decode()}")},
            ),
            Image(small, 64, {254: (LONG, 1), 270: text("level=1 mag=10 quality=95")}),
        ],
        big=True,
    )


def philips(in_xml: bool = True) -> Written:
    """Two levels, label and macro as directories, and, if so, as base64 in the XML."""
    import base64

    secret = SECRET.decode()
    coded = base64.b64encode(jpeg(label())).decode()

    def attribute(name: str, value: str) -> str:
        return f'<Attribute Name="{name}" Group="0x301D" Element="0x1001" PMSVR="IString">{value}</Attribute>'

    def representation(spacing: str) -> str:
        said = attribute("DICOM_PIXEL_SPACING", f'"{spacing}" "{spacing}"')
        return f'<DataObject ObjectType="PixelDataRepresentation">{said}</DataObject>'

    def image(kind: str, more: str) -> str:
        said = attribute("PIM_DP_IMAGE_TYPE", kind) + more
        return f'<DataObject ObjectType="DPScannedImage">{said}</DataObject>'

    levels = "".join(map(representation, ("0.00025", "0.0005")))
    derived = f'tiff-useBigTIFF=0-useRgb=0-levels=20,10-processed="x"-sourceFilename="{secret} - 2015-12-09.isyntax"'
    slide = (
        attribute("DICOM_PIXEL_SPACING", '"0.00025" "0.00025"')
        + attribute("DICOM_DERIVATION_DESCRIPTION", derived)
        + attribute("DICOM_ACQUISITION_DATETIME", "19540312101010.000000")
        + attribute("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", f"<Array>{levels}</Array>")
    )
    pictures = image("WSI", slide)
    if in_xml:
        for kind in ("LABELIMAGE", "MACROIMAGE"):
            pictures += image(kind, attribute("PIM_DP_IMAGE_DATA", coded))
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + attribute("PIM_DP_UFS_BARCODE", base64.b64encode(SECRET).decode())
        + attribute("DICOM_DEVICE_SERIAL_NUMBER", "SN-4711")
        + attribute("PIIM_DP_SCANNER_OPERATOR_ID", secret)
        + attribute("PIM_DP_SCANNED_IMAGES", f"<Array>{pictures}</Array>")
        + "</DataObject>"
    )
    whole = tissue(128, 256, 5)
    return tiff(
        [
            Image(whole, 64, {**IDENTIFYING, 270: text(xml), 305: text(b"Philips DP v1.0 " + SECRET)}),
            Image(whole[::2, ::2], 64, {254: (LONG, 1), 270: text(b"level=1 " + SECRET)}),
            Image(label(), None, {254: (LONG, 1), 270: text("Label")}),
            Image(label(30, 80), None, {254: (LONG, 1), 270: text("Macro -offset=(0,0)")}),
        ]
    )


def trestle() -> Written:
    """Two levels; OpenSlide finds its macro image in a file beside it."""
    whole = tissue(128, 128, 6)
    said = f"Objective Power=20;Name={SECRET.decode()}"
    scale = {282: (RATIONAL, [1, 2]), 283: (RATIONAL, [1, 2]), 305: text("MedScan"), 270: text(said)}
    return tiff([Image(whole, 64, {**scale}), Image(whole[::2, ::2], 64, {**scale})])


def write_vms(folder: Path) -> Path:
    """A Hamamatsu .vms with its pictures, beside it its macro image."""
    whole = tissue(256, 256, 8)
    (folder / "0.jpg").write_bytes(jpeg(whole, restart_marker_blocks=8))
    (folder / "map.jpg").write_bytes(jpeg(np.ascontiguousarray(whole[::4, ::4]), restart_marker_blocks=8))
    (folder / "macro.jpg").write_bytes(jpeg(label()))
    path = folder / "slide.vms"
    path.write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=0.jpg\nMapFile=map.jpg\n"
        "MacroImage=macro.jpg\nSourceLens=20\nPhysicalWidth=128000\nPhysicalHeight=128000\n"
        f"Reference={SECRET.decode()}\n"
    )
    return path
