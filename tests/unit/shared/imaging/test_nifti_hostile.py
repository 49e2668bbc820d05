"""Files from strangers: each is refused for what is wrong with it, quickly, in little memory, without PHI."""

import gzip
import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import HounsfieldError, Invalid, UnsupportedImage
from shared.imaging.nifti import (
    ImplausibleImage,
    Limits,
    NotNifti,
    TooManyVoxels,
    TruncatedImage,
    UnsupportedNifti,
    check_nifti,
    read_nifti,
)
from shared.imaging.nifti_fields import header_dtype
from tests.builders import nifti_file, nifti_header, nifti_voxels

SECRET = b"DOE^JANE 1950-01-01"
VOXELS = nifti_voxels()
FLOATS = np.arange(120, dtype="<f4")


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (300, 300)).save(buffer, "PNG")
    return buffer.getvalue()


def _affine(**cells: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    affine = np.eye(4)[:3]
    for cell, value in cells.items():
        affine[int(cell[1]), int(cell[2])] = value
    return affine


def _with_nan(count: int, value: float) -> bytes:
    floats = FLOATS.copy()
    floats[:count] = value
    return floats.tobytes()


def _version_2(**fields: object) -> bytes:
    header = np.zeros(1, dtype=header_dtype(540, "<"))
    valid: dict[str, object] = {"sizeof_hdr": 540, "magic": b"n+2", "datatype": 4, "vox_offset": 544}
    valid |= {"pixdim": np.ones(8), "sform_code": 1, "srow": np.eye(4)[:3], "dim": (3, 6, 5, 4, 1, 1, 1, 1)}
    for name, value in (valid | fields).items():
        header[name] = value
    return header.tobytes() + bytes(4)


FLOAT_HEADER = nifti_header(datatype=16, bitpix=32)
HOSTILE: dict[str, tuple[bytes, type[HounsfieldError], str]] = {
    "an empty file": (b"", NotNifti, "empty"),
    "a text file": (b"patient,age\n" * 100, NotNifti, "a text file"),
    "a PNG": (_png(), NotNifti, "a PNG picture"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(400), NotNifti, "a JPEG picture"),
    "a ZIP": (b"PK\x03\x04" + bytes(400), NotNifti, "a ZIP archive"),
    "a DICOM file": (bytes(128) + b"DICM" + bytes(400), NotNifti, "a DICOM file"),
    "gzip in gzip": (gzip.compress(nifti_header() + VOXELS), NotNifti, "gzip inside gzip"),
    "random bytes": (np.random.default_rng(0).bytes(2000), NotNifti, "some other file"),
    "half a header": (nifti_header()[:200], TruncatedImage, "inside its header"),
    "no magic": (nifti_header(magic=b"") + VOXELS, NotNifti, "magic"),
    "a .hdr of a pair": (nifti_header(magic=b"ni1"), UnsupportedNifti, "pair"),
    "a NIfTI-2 .hdr of a pair": (_version_2(magic=b"ni2"), UnsupportedNifti, "pair"),
    "a header alone": (nifti_header(), TruncatedImage, "too short|after 0 of"),
    "half the voxels": (nifti_header() + VOXELS[:120], TruncatedImage, "too short|after 60 of 120"),
    "one byte short": (nifti_header() + VOXELS[:-1], TruncatedImage, "too short|after 119 of 120"),
    "a megabyte too long": (nifti_header() + VOXELS + bytes(2**20), ImplausibleImage, "much longer"),
    "a 2D image": (nifti_header((12, 10)) + VOXELS, UnsupportedNifti, "a 2D image; a 3D volume"),
    "a 2D image with a third size of 1": (nifti_header((12, 10, 1)) + VOXELS, UnsupportedNifti, "2D image"),
    "a series": (nifti_header((5, 4, 3, 2)) + VOXELS, UnsupportedNifti, "holds 2 volumes"),
    "five dimensions": (nifti_header((5, 4, 2, 1, 3)) + VOXELS, UnsupportedNifti, "holds 3 volumes"),
    "a size of 0": (nifti_header((6, 0, 4)) + VOXELS, ImplausibleImage, "1 or more"),
    "a negative size": (nifti_header((6, -5, 4)) + VOXELS, ImplausibleImage, "1 or more"),
    "no dimensions": (nifti_header(dim=np.zeros(8)) + VOXELS, ImplausibleImage, "0 dimensions"),
    "99 dimensions": (nifti_header(dim=np.full(8, 99)) + VOXELS, ImplausibleImage, "99 dimensions"),
    "the largest sizes": (nifti_header((32767, 32767, 32767)) + VOXELS, TooManyVoxels, "the limit is"),
    "sizes that overflow 64 bits": (
        _version_2(dim=(3, 2**62, 2**62, 2**62, 1, 1, 1, 1)) + VOXELS,
        TooManyVoxels,
        "the limit is",
    ),
    "complex voxels": (nifti_header(datatype=32) + VOXELS, UnsupportedNifti, "complex"),
    "RGB voxels": (nifti_header(datatype=128) + VOXELS, UnsupportedNifti, "RGB"),
    "1-bit voxels": (nifti_header(datatype=1) + VOXELS, UnsupportedNifti, "1-bit"),
    "128-bit floats": (nifti_header(datatype=1536) + VOXELS, UnsupportedNifti, "128-bit"),
    "an unknown type": (nifti_header(datatype=999) + VOXELS, UnsupportedNifti, "unknown type"),
    "NaN voxels": (FLOAT_HEADER + _with_nan(7, math.nan), ImplausibleImage, "NaN or infinity at 7 "),
    "infinite voxels": (FLOAT_HEADER + _with_nan(3, math.inf), ImplausibleImage, "at 3 voxels"),
    "a constant image": (nifti_header() + bytes(240), ImplausibleImage, "the same value"),
    "a NaN affine": (nifti_header(srow=_affine(a00=math.nan)) + VOXELS, ImplausibleImage, "NaN or infinity"),
    "an infinite origin": (nifti_header(srow=_affine(a03=math.inf)) + VOXELS, ImplausibleImage, "infinity"),
    "an origin in the next street": (nifti_header(srow=_affine(a03=1e6)) + VOXELS, ImplausibleImage, "10 m"),
    "a flat affine": (nifti_header(srow=_affine(a11=0, a01=1)) + VOXELS, ImplausibleImage, "degenerate"),
    "a zero affine": (nifti_header(srow=np.zeros((3, 4))) + VOXELS, ImplausibleImage, "spacing is 0"),
    "spacing in metres": (nifti_header(srow=_affine(a00=0.001)) + VOXELS, ImplausibleImage, "between 0.05"),
    "spacing in microns": (nifti_header(srow=_affine(a22=1000)) + VOXELS, ImplausibleImage, "and 20 mm"),
    "a spacing of 0 under a qform": (
        nifti_header(sform_code=0, qform_code=1, pixdim=np.zeros(8)) + VOXELS,
        ImplausibleImage,
        "must be positive",
    ),
    "a NaN spacing": (
        nifti_header(sform_code=0, pixdim=np.full(8, math.nan)) + VOXELS,
        ImplausibleImage,
        "NaN or infinity",
    ),
    "a quaternion longer than 1": (
        nifti_header(sform_code=0, qform_code=1, quaternion=(1, 1, 1)) + VOXELS,
        ImplausibleImage,
        "NaN or infinity",
    ),
    "an infinite slope": (nifti_header(scl_slope=math.inf) + VOXELS, ImplausibleImage, "finite numbers"),
    "a NaN intercept": (nifti_header(scl_slope=2, scl_inter=math.nan) + VOXELS, ImplausibleImage, "finite"),
    "a slope that overflows": (nifti_header(scl_slope=3e38) + VOXELS, ImplausibleImage, "32-bit floats"),
    "voxels inside the header": (nifti_header(vox_offset=100) + VOXELS, ImplausibleImage, "byte 100"),
    "voxels a terabyte away": (nifti_header(vox_offset=1e12) + VOXELS, ImplausibleImage, "byte 1e"),
    "a NaN offset": (nifti_header(vox_offset=math.nan) + VOXELS, ImplausibleImage, "byte nan"),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_for_what_is_wrong_with_it(
    case: str, compressed: bool, tmp_path: Path
) -> None:
    content, refusal, message = HOSTILE[case]
    path = nifti_file(tmp_path / "JANE_DOE.bin", content, compressed=compressed)
    if case == "gzip in gzip" and not compressed:
        assert read_nifti(path, Limits()).shape == (6, 5, 4)
        return
    for reader in (check_nifti, read_nifti):
        with pytest.raises(refusal, match=message) as refused:
            reader(path, Limits())
        assert "JANE" not in refused.value.detail
        assert refused.value.status in {413, 415, 422}


def test_a_truncated_gzip_stream_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(240)
    whole = gzip.compress(nifti_header() + noise)
    for length in (12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedImage, match="ends early"):
            check_nifti(path, Limits())


def test_a_gzip_stream_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(nifti_header() + np.random.default_rng(0).bytes(240)))
    whole[-6] ^= 1  # in the checksum
    path = tmp_path / "damaged"
    path.write_bytes(whole)
    with pytest.raises(TruncatedImage, match="damaged"):
        read_nifti(path, Limits())


def test_free_text_of_the_header_never_reaches_a_message(tmp_path: Path) -> None:
    header = bytearray(nifti_header(datatype=32))
    header[148 : 148 + len(SECRET)] = SECRET  # descrip
    header[228 : 228 + len(SECRET)] = SECRET  # aux_file
    with pytest.raises(UnsupportedNifti) as refused:
        read_nifti(nifti_file(tmp_path / "x", bytes(header), VOXELS), Limits())
    assert "DOE" not in str(refused.value)


def test_the_limit_counts_decompressed_bytes(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x", nifti_header(), VOXELS)
    assert read_nifti(path, Limits(max_bytes=352 + 240)).shape == (6, 5, 4)
    with pytest.raises(TooManyVoxels) as refused:
        read_nifti(path, Limits(max_bytes=352 + 239))
    assert refused.value.status == 413


def test_an_empty_label_map_is_welcome_where_the_caller_says_so(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x", nifti_header(), bytes(240))
    assert not read_nifti(path, Limits(allow_constant=True)).data.any()


_CHILD = """
import sys, time
from pathlib import Path
from shared.imaging import nifti
from shared.errors import HounsfieldError
from tests.memory import peak_mib
before = peak_mib()
started = time.monotonic()
for reader in sys.argv[2:]:
    try:
        print(getattr(nifti, reader)(Path(sys.argv[1]), nifti.Limits()).shape)
    except HounsfieldError as refusal:
        print(type(refusal).__name__)
grown = peak_mib() - before
print(grown, time.monotonic() - started)
"""


def _read_apart(path: Path, *readers: str) -> tuple[list[str], float, float]:
    """What each reader answers in its own process, how much memory that took (MiB) and how long (s)."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), *readers],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *answers, figures = child.stdout.splitlines()
    grown, seconds = map(float, figures.split())
    return answers, grown, seconds


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """4 GiB of zeros as gzip members that follow each other."""
    return gzip.compress(bytes(2**26), 1) * 64


@pytest.mark.parametrize(
    ("start", "refusal"),
    [
        (b"", "NotNifti"),
        (nifti_header() + VOXELS, "ImplausibleImage"),
        (nifti_header((1290, 1290, 1290)), "TooManyVoxels"),
    ],
    ids=["bare", "behind a modest header", "behind a header that admits them"],
)
def test_four_gigabytes_of_zeros_cost_neither_time_nor_memory(
    start: bytes, refusal: str, zeros: bytes, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes((gzip.compress(start) if start else b"") + zeros)
    answers, grown_mib, seconds = _read_apart(bomb, "check_nifti", "read_nifti")
    assert answers == [refusal, refusal]
    assert grown_mib < 300
    assert seconds < 5


def test_checking_an_image_needs_a_few_blocks_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    plane = np.arange(512 * 512, dtype="<i2").tobytes()
    path.write_bytes(nifti_header((512, 512, 400)) + plane * 400)
    answers, grown_mib, _ = _read_apart(path, "check_nifti")
    assert answers == ["(512, 512, 400)"]
    assert grown_mib < 60  # the image has 200 MiB


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 347), value=st.integers(0, 255), more=st.binary(max_size=8))
def test_no_header_byte_can_crash_the_reader(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, more: bytes
) -> None:
    content = bytearray(nifti_header() + VOXELS)
    content[place : place + 1 + len(more)] = bytes([value]) + more
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(content)
    try:
        volume = read_nifti(path, Limits(max_bytes=10**7))
    except (Invalid, UnsupportedImage, TooManyVoxels):
        return
    assert np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()
