"""What strangers may send to do harm, each with the reason that it is refused for.

Most of it is what the readers' own suites hold; here it goes through everything that stands around them.
"""

import gzip
import io
import lzma
import random
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from shared.imaging.dicom.errors import DamagedDicom
from tests.builders import nifti_header
from tests.unit.shared.archives import test_hostile as archives
from tests.unit.shared.archives.building import END, tar, tar_member, zip_of
from tests.unit.shared.formats import samples as formats_samples
from tests.unit.shared.formats import test_hostile as formats
from tests.unit.shared.imaging.dicom import test_headers_hostile as headers
from tests.unit.shared.imaging.dicom.builders import make_enhanced, make_image
from tests.unit.shared.imaging.slide import samples as slides

MIB = 2**20


@dataclass(frozen=True)
class Hostile:
    """content: how the file is made. says: a pattern that the reason matches."""

    content: Callable[[], bytes]
    says: str
    kind: str | None = None


def _given(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _of_archives() -> dict[str, Hostile]:
    """Those whose refusal does not depend on limits that only that suite has."""
    names = {
        name: archives.NAMES[name]
        for name in archives.NAMES
        if ("long" not in name and "deep" not in name) or "climbs" in name
    }
    groups = (archives.SPECIALS, names, archives.TAR_DAMAGE, archives.ZIP_DAMAGE)
    skipped = ("empty blocks", "text after a member", "a zip's first bytes", "cut in a header")
    return {
        name: Hostile(build, f"file 1: .*(?:{says})")
        for group in groups
        for name, (build, _, says, _) in group.items()
        if not name.startswith(skipped)
    }


def _of_formats() -> dict[str, Hostile]:
    return {
        name: Hostile(_given(content), f"file 1: .*(?:{says})")
        for name, (content, _, says) in formats.HOSTILE.items()
    }


def _of_dicom() -> dict[str, Hostile]:
    return {
        f"DICOM: {name}": Hostile(_given(content), f"file 1: .*(?:{says})")
        for name, (kind, says, content) in headers.HOSTILE.items()
        if kind is DamagedDicom and name != "a preamble alone"
    }


def _some(cases: dict[str, Hostile], every: int) -> dict[str, Hostile]:
    """Some of them: all have a suite of their own."""
    return dict(list(cases.items())[::every])


def zeros(count: int) -> bytes:
    """A gzip stream of a tar with one file of `count` MiB of zeros that were never there."""
    packer = zlib.compressobj(9, wbits=31)
    out = [packer.compress(tar_member("a", size=count * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)]
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    out += [block] * count
    return b"".join(out) + packer.compress(END) + packer.flush()


def dicom(**tags: object) -> bytes:
    """One image as a file."""
    file = io.BytesIO()
    make_image(**tags).save_as(file, enforce_file_format=True)
    return file.getvalue()


def pair(**tags: object) -> bytes:
    """Two planes of a CT, so that only what the tags say is wrong."""
    positions = ([0.0, 0.0, 0.0], [0.0, 0.0, 2.0])
    planes = [dicom(ImagePositionPatient=place, **tags) for place in positions]
    return tar({f"{n}.dcm": plane for n, plane in enumerate(planes)})


def jpeg2000(garbage: bytes) -> bytes:
    """Planes whose compressed pixels are garbage."""
    syntax = UID("1.2.840.10008.1.2.4.90")
    planes = {}
    for n in range(2):
        image = make_image(ImagePositionPatient=[0.0, 0.0, 2.0 * n])
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([garbage])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        file = io.BytesIO()
        image.save_as(file, enforce_file_format=True)
        planes[f"{n}.dcm"] = file.getvalue()
    return tar(planes)


def deflated_bomb() -> bytes:
    """A deflated data set of 300 MiB."""
    meta = bytes(128) + b"DICM\x02\x00\x10\x00UI\x16\x00" + b"1.2.840.10008.1.2.1.99"
    packer = zlib.compressobj(9, wbits=-15)
    body = headers.SOP + headers.element(0x00091001, b"OB", b"", 300 * MIB)
    return meta + packer.compress(body) + packer.compress(bytes(300 * MIB)) + packer.flush()


def many_frames() -> bytes:
    """An Enhanced file that promises far more pixels than it has."""
    image = make_enhanced([(0, 0, 2.0 * k) for k in range(3)])
    image.NumberOfFrames = 60000
    image.Rows = image.Columns = 60000
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def nifti_bomb() -> bytes:
    """A small .nii.gz of 4 GiB."""
    header = nifti_header((1024, 1024, 2048))
    packer = zlib.compressobj(9, wbits=31)
    begin = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + (packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)) * 256


def nifti_nan() -> bytes:
    """A volume with one voxel that is no number."""
    voxels = np.random.default_rng(1).normal(100, 50, 40**3).astype("<f4")
    voxels[17] = np.nan
    header = nifti_header(
        (40,) * 3, datatype=16, bitpix=32, srow=np.diag([4.0, 4, 4, 1])[:3], pixdim=np.full(8, 4.0)
    )
    return header + voxels.tobytes()


def billion_laughs() -> bytes:
    """A HEYEX export whose entities multiply."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<!DOCTYPE HEDX [<!ENTITY e0 "ha">{entities}]>'
    return formats_samples.heyex_xml(doctype=doctype)


def locked_zip() -> bytes:
    """A zip whose member says that it is encrypted."""
    content = bytearray(zip_of({"a": b"x" * 100}))
    content[6] |= 1
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    return bytes(content)


def many_members() -> bytes:
    """More files than any study has."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for number in range(50_001):
                archive.writestr(f"{number}", b"")
        return buffer.getvalue()


def quine(levels: int) -> bytes:
    """Archives in archives."""
    content = tar({"a": b"x" * 100})
    for _ in range(levels):
        content = gzip.compress(tar({"inner.tar.gz": content}))
    return content


NOISE = random.Random(7).randbytes(3 * MIB)
SVS = slides.aperio().data
OWN: dict[str, Hostile] = {
    "a tar.gz of 4 GiB of zeros": Hostile(lambda: zeros(4096), "unpacks to more than"),
    "a tar.xz bomb of 1 GiB": Hostile(
        lambda: lzma.compress(b"".join([tar_member("a", size=2**30), bytes(MIB) * 1024, END]), preset=0),
        "unpacks to more than",
    ),
    "archives six deep": Hostile(lambda: quine(6), "opened 1 deep"),
    "50,001 files": Hostile(many_members, "more than 50,000 files"),
    "an encrypted zip": Hostile(locked_zip, "encrypted|password"),
    "a 7z archive": Hostile(_given(b"7z\xbc\xaf\x27\x1c" + NOISE[:500]), "7-Zip"),
    "a RAR archive": Hostile(_given(b"Rar!\x1a\x07\x01\0" + NOISE[:500]), "RAR"),
    "a Zstandard stream": Hostile(_given(b"\x28\xb5\x2f\xfd" + NOISE[:500]), "Zstandard"),
    "an archive of texts": Hostile(lambda: tar({"README": b"read me\n" * 50}), "member 1: .*text file"),
    "an archive of nothing": Hostile(_given(END * 10), "zero bytes|empty"),
    "noise": Hostile(_given(NOISE), "unknown type"),
    "a program": Hostile(_given(b"\x7fELF" + NOISE[:2000]), "a program"),
    "a PDF": Hostile(_given(b"%PDF-1.7\n" + NOISE[:2000]), "PDF"),
    "a truncated tar.gz of images": Hostile(
        lambda: gzip.compress(pair())[:-200], "ends early|damaged|file 1"
    ),
    "an empty file": Hostile(_given(b""), "empty"),
    "a DICOM image cut in its pixels": Hostile(lambda: dicom()[:-30], "bytes; (?:the header|\\d)"),
    "a deflated DICOM bomb": Hostile(deflated_bomb, "more than 256 MiB"),
    "an Enhanced file of too many frames": Hostile(many_frames, "promises|frames"),
    "a CT of 65,535 × 65,535 planes": Hostile(lambda: pair(Rows=65535, Columns=65535), "promises"),
    "a CT of JPEG 2000 garbage": Hostile(lambda: jpeg2000(NOISE[:3000]), "cannot be decoded"),
    "a CT of half a JPEG 2000 header": Hostile(
        lambda: jpeg2000(b"\xff\x4f\xff\x51\0\x29\0\0\x7f\xff\xff\xff\x7f\xff\xff\xff" + bytes(500)),
        "cannot be decoded",
    ),
    "a CT in one place": Hostile(
        lambda: tar({f"{n}.dcm": dicom() for n in range(3)}), "lie where another one lies"
    ),
    "a CT with a slope of infinity": Hostile(lambda: pair(RescaleSlope="1e999"), "finite"),
    "a CT without pixel spacing": Hostile(lambda: pair(PixelSpacing=None), "pixel spacing|spacing"),
    "a CT of a bit a pixel": Hostile(
        lambda: pair(BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0), "pixels are of 1 bits"
    ),
    "a CT in colour": Hostile(
        lambda: pair(SamplesPerPixel=3, PhotometricInterpretation="RGB", PixelData=bytes(6 * 8 * 3 * 2)),
        "colour",
    ),
    "one UID on different images": Hostile(
        lambda: tar(
            {f"{n}.dcm": dicom(SOPInstanceUID="1.2.3", ImagePositionPatient=[0, 0, n]) for n in range(3)}
        ),
        "say different things",
    ),
    "a report": Hostile(
        lambda: dicom(
            SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.11"), PixelData=None, Rows=None, Columns=None
        ),
        "structured report",
    ),
    "a NIfTI bomb of 4 GiB": Hostile(nifti_bomb, "the limit is"),
    "a NIfTI with a NaN among its voxels": Hostile(nifti_nan, "NaN or infinity at 1"),
    "a NIfTI of one plane": Hostile(lambda: nifti_header((64, 64, 1)) + bytes(64 * 64 * 2), "2D image"),
    "a NIfTI of a thousand volumes": Hostile(
        lambda: nifti_header((40, 40, 40, 1000)) + bytes(40**3 * 2000), "1000 volumes"
    ),
    "a NIfTI with a megabyte behind it": Hostile(
        lambda: nifti_header((40,) * 3) + np.arange(40**3, dtype="<i2").tobytes() + bytes(MIB),
        "much longer than its header",
    ),
    "an OCT index of billions of entities": Hostile(billion_laughs, "XML or HTML document that is no image"),
    "an .e2e in a loop": Hostile(lambda: formats_samples.e2e(loop=True), "loop|directories|damaged"),
    "an .fds of negative sizes": Hostile(
        lambda: formats_samples.topcon(formats_samples.fds_chunks(width=2**32 - 5)),
        "plausible|damaged|file 1",
    ),
    "a slide cut in half": Hostile(lambda: SVS[: len(SVS) // 2], "file 1"),
    "a slide whose directories loop": Hostile(
        lambda: slides.tiff([slides.Image(slides.tissue(64, 64))], loop=True).data, "loop"
    ),
    "a slide whose tiles lie beyond its end": Hostile(
        lambda: slides.tiff([slides.Image(slides.tissue(128, 128), pieces=[(10**9, 12288)] * 4)]).data,
        "damaged|decoded|beyond|cut short",
        "slide",
    ),
    "a CZI of noise": Hostile(_given(b"ZISRAWFILE" + NOISE[:5000]), "CZI|damaged"),
    "an SQLite database that is no slide": Hostile(
        _given(b"SQLite format 3\0" + NOISE[:5000]), "SQLite|damaged"
    ),
    "a PNG whose pixels are cut off": Hostile(
        lambda: formats_samples.picture("png")[:-60], "damaged|cut short"
    ),
    "a JPEG of noise": Hostile(
        lambda: formats_samples.picture("jpeg")[:300] + NOISE[:3000], "damaged|cut short|file 1"
    ),
    "a CT that is said to be a slide": Hostile(pair, "sent as a whole-slide image, but holds", "slide"),
}
CASES: dict[str, Hostile] = _some(_of_archives(), 3) | _some(_of_formats(), 2) | _of_dicom() | OWN
