"""Small valid files of every format, built here byte by byte or by an independent writer."""

import gzip
import io
import struct
import tarfile
import zipfile
from functools import cache

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.builders import nifti_header, nifti_voxels

SECRET = b"DOE^JANE"
"""A name that no message may repeat."""
CT, WSI, OPT = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.77.1.6",
    "1.2.840.10008.5.1.4.1.1.77.1.5.4",
)
DICOMDIR = "1.2.840.10008.1.3.10"


def dicom(sop_class: str = CT, preamble: bytes = bytes(128)) -> bytes:
    """File meta information and the beginning of a dataset with a patient's name."""
    uid = sop_class.encode() + b"\x00" * (len(sop_class) % 2)
    meta = struct.pack("<HH2sHHH", 2, 1, b"OB", 0, 2, 0) + b"\x00\x01"
    meta = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\x00\x01"
    meta += struct.pack("<HH2sH", 2, 2, b"UI", len(uid)) + uid
    return preamble + b"DICM" + meta + bare_dicom()


def bare_dicom(explicit: bool = True) -> bytes:
    """A dataset without preamble and file meta information."""
    elements = [
        (8, 5, b"CS", b"ISO_IR 100"),
        (8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2\x00"),
        (8, 0x60, b"CS", b"CT"),
    ]
    elements.append((0x10, 0x10, b"PN", SECRET))
    if explicit:
        return b"".join(struct.pack("<HH2sH", g, e, vr, len(v)) + v for g, e, vr, v in elements)
    return b"".join(struct.pack("<HHI", g, e, len(v)) + v for g, e, _, v in elements)


def nifti(**fields: object) -> bytes:
    """NIfTI-1, 6 × 5 × 4."""
    return nifti_header(**fields) + nifti_voxels()  # type: ignore[arg-type]


NRRD_FIELDS = {
    "type": "int16",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(1,0,0) (0,1.5,0) (0,0,2)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-10,20,30)",
}


def nrrd(voxels: bytes | None = None, **fields: str | None) -> bytes:
    """NRRD, 6 × 5 × 4; fields (with _ for blanks) overrule, None takes one away."""
    said = NRRD_FIELDS | {name.replace("_", " "): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in said.items() if value is not None]
    data = nifti_voxels() if voxels is None else voxels
    if said["encoding"] == "gzip" and voxels is None:
        data = gzip.compress(data, mtime=0)
    return ("NRRD0004\n# written for a test\n" + "\n".join(lines) + "\n\n").encode() + data


MHA_FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-10 20 30",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "1 1.5 2",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def mha(voxels: bytes | None = None, **fields: str | None) -> bytes:
    """MetaImage, 6 × 5 × 4; fields overrule, None takes one away."""
    said = {**MHA_FIELDS, **fields}
    said["ElementDataFile"] = said.pop("ElementDataFile")  # the last line
    lines = [f"{name} = {value}" for name, value in said.items() if value is not None]
    return ("\n".join(lines) + "\n").encode() + (nifti_voxels() if voxels is None else voxels)


def scan(height: int = 40, width: int = 50, number: int = 0) -> NDArray[np.float32]:
    """A B-scan's reflectivity in 0–1."""
    y, x = np.mgrid[:height, :width]
    return np.asarray(np.exp(-((y - 15 - 5 * np.sin(x / 9 + number)) ** 2) / 40) * 0.5, dtype=np.float32)


def vol(
    scans: int = 3,
    eye: bytes = b"OD",
    scale: tuple[float, float, float] = (0.0118, 0.031, 0.00387),
    **at: int,
) -> bytes:
    """Heidelberg .vol. scale: lateral, between, axial (mm). at: pattern, width, scans, height as the header says them."""
    header = bytearray(2048)
    header[:12] = b"HSF-OCT-103\x00"
    struct.pack_into(
        "<3I3d", header, 12, at.get("width", 50), at.get("scans", scans), at.get("height", 40), *scale
    )
    struct.pack_into("<2I2d", header, 48, 30, 20, 0.0118, 0.0118)
    header[84:88] = eye.ljust(4, b"\x00")
    struct.pack_into("<iI", header, 96, at.get("pattern", 3), 512)
    header[144:152] = SECRET
    body = bytes(range(200)) * 3
    for number in range(scans):
        body += b"HSF-BS-103\x00\x00" + struct.pack("<I", at.get("scan_header", 512)) + bytes(496)
        body += scan(number=number).astype("<f4").tobytes()
    return bytes(header) + body


def ufloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Heidelberg's 16-bit float: 6 bits of exponent, 10 of mantissa, no sign."""
    mantissa, exponent = np.frexp(np.maximum(values, 1e-12))
    return ((exponent + 62).astype(np.uint16) << 10) | np.floor((mantissa * 2 - 1) * 1024).astype(np.uint16)


E2eChunk = tuple[int, int, int, int, bytes]
"""Type, index, series, slice, content."""


def e2e_chunks(series: int = 1, scans: int = 3, eye: bytes = b"R", axial: float = 0.00387) -> list[E2eChunk]:
    """The chunks of one scan with its fundus image."""
    chunks: list[E2eChunk] = [(9, 0xFFFF, series, -1, SECRET.ljust(131, b"\x00"))]
    chunks.append((11, 0xFFFF, series, -1, bytes(14) + eye + bytes(12)))
    chunks.append(
        (0x40000000, 0, series, 0, struct.pack("<5I", 620, 33620481, 600, 20, 30) + bytes(range(200)) * 3)
    )
    for number in range(scans):
        chunks.append(
            (
                10004,
                0xFFFF,
                series,
                2 * number,
                struct.pack("<3I6xff", 0, 40, 50, 0, 0).ljust(36, b"\x00")
                + struct.pack("<f", axial)
                + bytes(64),
            )
        )
        pixels = ufloat16(scan(number=number)).astype("<u2").tobytes()
        chunks.append(
            (0x40000000, 1, series, 2 * number, struct.pack("<5I", 4020, 35652097, 2000, 40, 50) + pixels)
        )
    return chunks


def e2e(chunks: list[E2eChunk] | None = None, prefix: bytes = b"", loop: bool = False) -> bytes:
    """Heidelberg .e2e in two directories, the second pointing back at the first."""
    chunks = e2e_chunks() if chunks is None else chunks
    half = len(chunks) // 2
    out = b"CMDb".ljust(12, b"\x00") + struct.pack("<I", 100) + bytes(20)
    first, main_at = 88, 36
    directories, previous = b"", 0
    for part in (chunks[:half], chunks[half:]):
        at = first + len(directories)
        contents = at + 52 + 44 * len(part)
        entries, bodies = b"", b""
        for kind, index, series, number, content in part:
            place = contents + len(bodies)
            ids = struct.pack("<3IiHHII", 7, 1, series, number, index, 0, kind, 0)
            entries += struct.pack("<4I", at, place, len(content), 0) + ids
            bodies += (
                b"MDbData".ljust(12, b"\x00")
                + struct.pack("<2I", 0, 0)
                + struct.pack("<3I", place, len(content), 0)
                + ids
                + content
            )
        directories += _directory(len(part), at, at if loop else previous) + entries + bodies
        previous = at
    assert len(out) == main_at
    return prefix + out + _directory(0, previous, 0) + directories


def _directory(entries: int, current: int, previous: int) -> bytes:
    return (
        b"MDbMDir".ljust(12, b"\x00")
        + struct.pack("<I", 100)
        + bytes(20)
        + struct.pack("<4I", entries, current, previous, 0)
    )


def topcon(chunks: dict[bytes, bytes] | None = None, variant: bytes = b"FDS") -> bytes:
    """Topcon .fds or .fda of these chunks."""
    body = b"FOCT" + variant + struct.pack("<2I", 1, 1001)
    for name, content in (fds_chunks() if chunks is None else chunks).items():
        body += bytes([len(name)]) + name + struct.pack("<I", len(content)) + content
    return body + b"\x00"


def fds_chunks(scans: int = 3, size_mm: float = 6.0, eye: int = 1, **says: int) -> dict[bytes, bytes]:
    """The chunks of one scan, 16 bits plain, 50 × 40, with a fundus image."""
    pixels = b"".join((scan(number=n) * 60000).astype("<u2").tobytes() for n in range(scans))
    head = struct.pack(
        "<B4IBI",
        says.get("mode", 2),
        says.get("width", 50),
        says.get("height", 40),
        says.get("bits", 16),
        says.get("scans", scans),
        0,
        len(pixels),
    )
    scale = bytes(12) + struct.pack("<3d", size_mm, size_mm / 100, 3.5) + bytes(18)
    return {
        b"@PATIENT_INFO_02": SECRET.ljust(615, b"\x00"),
        b"@CAPTURE_INFO_02": bytes([eye]) + bytes(117),
        b"@IMG_SCAN_03": head + pixels,
        b"@PARAM_SCAN_04": scale,
        b"@IMG_OBS": struct.pack("<4IBI", 4, 3, 24, 1, 0, 36) + bytes(range(36)),
    }


@cache
def fda_chunks() -> dict[bytes, bytes]:
    """The chunks of one scan in JPEG 2000, 50 × 40, with a JPEG fundus image."""
    body = struct.pack("<B6I", 2, 0, 0, 50, 40, 3, 0)
    for number in range(3):
        stream = picture("JPEG2000", (scan(number=number) * 255).astype(np.uint8))
        body += struct.pack("<I", len(stream)) + stream
    fundus = picture("JPEG", np.full((6, 8, 3), 90, dtype=np.uint8))
    scale = bytes(21) + struct.pack("<3d", 6.0, 0.06, 2.6) + bytes(33)
    return {
        b"@IMG_JPEG": body,
        b"@CAPTURE_INFO_02": bytes(118),
        b"@PARAM_SCAN_02": scale,
        b"@IMG_FUNDUS": struct.pack("<4I4sI", 8, 6, 24, 1, b"", len(fundus)) + fundus,
    }


def heyex_xml(scans: int = 3, doctype: str = "", apart: float = 0.03) -> bytes:
    """A HEYEX XML export that lists `scans` B-scans and a localizer."""
    images = [_xml_image(0, "LOCALIZER", "NIR1.tif", "<ScaleX>0.0118</ScaleX><ScaleY>0.0118</ScaleY>")]
    for number in range(scans):
        y = 6.8 - apart * number
        place = f"<Start><Coord><X>1.5</X><Y>{y}</Y></Coord></Start><End><Coord><X>7.5</X><Y>{y}</Y></Coord></End>"
        scale = "<ScaleX>0.0118</ScaleX><ScaleY>0.00387</ScaleY>"
        images.append(_xml_image(number + 1, "OCT", f"B{number + 1}.tif", scale + place))
    patient = f"<Patient><LastName>{SECRET.decode()}</LastName><Study><Series>{''.join(images)}</Series></Study></Patient>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}<HEDX><BODY>{patient}</BODY></HEDX>'.encode()


def _xml_image(number: int, kind: str, name: str, context: str) -> str:
    return (
        f"<Image><ID>{number}</ID><Laterality>L</Laterality><ImageType><Type>{kind}</Type></ImageType>"
        f"<OphthalmicAcquisitionContext>{context}</OphthalmicAcquisitionContext>"
        f"<ImageData><ExamURL>file:///\\\\host\\share\\{name}</ExamURL></ImageData></Image>"
    )


def grey(height: int = 40, width: int = 50, dtype: type = np.uint8) -> NDArray[np.generic]:
    """A picture whose corners differ."""
    return np.asarray(
        np.arange(height * width).reshape(height, width) * (37 if dtype is np.uint16 else 1), dtype=dtype
    )


def picture(name: str, pixels: NDArray[np.generic] | None = None, **options: object) -> bytes:
    """`pixels` as Pillow writes the format `name`."""
    buffer = io.BytesIO()
    Image.fromarray(grey() if pixels is None else pixels).save(buffer, name, **options)
    return buffer.getvalue()


def tiff(pixels: NDArray[np.generic] | None = None, **options: object) -> bytes:
    """`pixels` as tifffile writes them."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, grey() if pixels is None else pixels, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def slide(mpp: str = "0.5", description: str | None = None) -> bytes:
    """A small Aperio .svs of two levels and a thumbnail, whose description names a patient."""
    said = (
        description
        or f"Aperio Image Library v12.0\n256x192 [0,0 256x192] (64x64)|AppMag = 20|MPP = {mpp}|Patient = {SECRET.decode()}"
    )
    colours = np.random.default_rng(0).integers(0, 255, (192, 256, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(colours, tile=(64, 64), photometric="rgb", description=said, metadata=None)
        writer.write(colours[::4, ::4], photometric="rgb", description=said, metadata=None)
        writer.write(colours[::2, ::2], tile=(64, 64), photometric="rgb", description=said, metadata=None)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    """A .zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar(mode: str = "w") -> bytes:
    """A .tar, or .tar.gz (mode w:gz) and so on."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("000001.dcm")
        content = dicom()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@cache
def valid() -> dict[str, bytes]:
    """One file of every kind that is read or recognised."""
    return {
        "dicom": dicom(),
        "dicom with a TIFF header in its preamble": dicom(
            preamble=b"II*\x00\xff\xff\x00\x00".ljust(128, b"\x00")
        ),
        "dicom without preamble": bare_dicom(),
        "dicom without preamble, implicit": bare_dicom(explicit=False),
        "dicomdir": dicom(DICOMDIR),
        "dicom wsi": dicom(WSI),
        "dicom opt": dicom(OPT),
        "nifti": nifti(),
        "nifti gzipped": gzip.compress(nifti(), mtime=0),
        "nrrd": nrrd(),
        "nrrd gzipped": nrrd(encoding="gzip"),
        "mha": mha(),
        "e2e": e2e(),
        "e2e of several volumes": e2e(
            e2e_chunks(1) + e2e_chunks(2, eye=b"L"), b"E2EMultipleVolumeFile".ljust(64, b"\x00")
        ),
        "vol": vol(),
        "fds": topcon(),
        "fda": topcon(fda_chunks(), b"FDA"),
        "heyex xml": heyex_xml(),
        "png": picture("PNG"),
        "png, 16 bits": picture("PNG", grey(dtype=np.uint16)),
        "jpeg": picture("JPEG"),
        "tiff": tiff(),
        "tiff, deflated": tiff(compression="zlib"),
        "tiff, lzw": picture("TIFF", compression="tiff_lzw"),
        "bigtiff": tiff(bigtiff=True),
        "tiff, big-endian, 16 bits": tiff(grey(dtype=np.uint16), byteorder=">"),
        "ome-tiff": tiff(ome=True),
        "slide": slide(),
        "zip": zipped(a=b"1"),
        "tar": tar(),
        "tar.gz": tar("w:gz"),
        "tar.bz2": tar("w:bz2"),
        "tar.xz": tar("w:xz"),
    }
