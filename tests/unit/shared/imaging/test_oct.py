"""OCT: B-scans, eye and scale as the device wrote them; no scale rather than a wrong one."""

import struct
from pathlib import Path

import numpy as np
import pytest

from shared.errors import HounsfieldError, Invalid, TooLarge, UnsupportedImage
from shared.formats.types import Format
from shared.imaging.nifti_header import ImplausibleImage, TruncatedImage
from shared.imaging.oct.heidelberg_e2e import read_e2e
from shared.imaging.oct.heidelberg_vol import read_vol
from shared.imaging.oct.heyex_xml import read_heyex_xml
from shared.imaging.oct.intensity import UFLOAT16, displayed
from shared.imaging.oct.read import read_oct
from shared.imaging.oct.topcon import read_topcon
from shared.imaging.oct.volume import OctSpacing, validated_spacing
from tests.unit.shared.formats import samples
from tests.unit.shared.formats.test_identify import written

SHOWN = np.stack([displayed(samples.scan(number=number)) for number in range(3)])


def pictures(folder: Path, scans: int = 3) -> dict[str, Path]:
    """The files of a HEYEX export."""
    found = {f"b{n + 1}.tif": written(folder, samples.tiff(SHOWN[n]), f"B{n + 1}.tif") for n in range(scans)}
    return found | {"nir1.tif": written(folder, samples.tiff(samples.grey(20, 30)), "NIR1.tif")}


def test_a_vol_file_is_read(tmp_path: Path) -> None:
    volume = read_vol(written(tmp_path, samples.vol()))
    assert np.array_equal(volume.bscans, SHOWN)
    assert volume.spacing_mm == OctSpacing(0.00387, 0.0118, 0.031)
    assert (volume.laterality, volume.device, volume.spacing_note) == ("R", "Heidelberg", "")
    assert volume.fundus is not None and volume.fundus.shape == (20, 30)


def test_an_e2e_file_is_read_with_the_values_of_a_vol_file(tmp_path: Path) -> None:
    (volume,) = read_e2e(written(tmp_path, samples.e2e()))
    assert np.abs(volume.bscans.astype(int) - SHOWN).max() <= 1  # ten bits of mantissa
    assert volume.laterality == "R"
    assert volume.fundus is not None and volume.fundus.shape == (20, 30)


def test_an_e2e_file_is_not_measured_across_because_it_says_angles_only(tmp_path: Path) -> None:
    (volume,) = read_e2e(written(tmp_path, samples.e2e()))
    assert volume.spacing_mm is None
    assert "angles only" in volume.spacing_note and "3.87 µm" in volume.spacing_note


def test_both_eyes_of_an_e2e_file_are_two_scans(tmp_path: Path) -> None:
    chunks = samples.e2e_chunks(1) + samples.e2e_chunks(2, scans=2, eye=b"L")
    for prefix in (b"", b"E2EMultipleVolumeFile".ljust(64, b"\x00")):
        volumes = read_e2e(written(tmp_path, samples.e2e(chunks, prefix)))
        assert [(v.laterality, len(v.bscans)) for v in volumes] == [("R", 3), ("L", 2)]


def test_an_eye_that_is_said_in_two_ways_is_none(tmp_path: Path) -> None:
    chunks = [*samples.e2e_chunks(), (3, 0, 1, -1, bytes(4) + b"L" + bytes(91))]
    (volume,) = read_e2e(written(tmp_path, samples.e2e(chunks)))
    assert volume.laterality is None


def test_the_16_bit_float_rises_with_its_code() -> None:
    one = 63 << 10
    assert (np.diff(UFLOAT16[: one + 1].astype(int)) >= 0).all()
    assert (UFLOAT16[0], UFLOAT16[one], UFLOAT16[0xFFFF]) == (0, 255, 0)  # the last: no data


def test_places_outside_the_scan_are_black_and_saturated_ones_white() -> None:
    values = np.array([[0, 1, 1.5, np.finfo(np.float32).max]], dtype=np.float32)
    assert displayed(values).tolist() == [[0, 255, 255, 0]]


@pytest.mark.parametrize(
    ("chunks", "variant"), [(samples.fds_chunks(), b"FDS"), (samples.fda_chunks(), b"FDA")]
)
def test_topcon_files_are_read(tmp_path: Path, chunks: dict[bytes, bytes], variant: bytes) -> None:
    volume = read_topcon(written(tmp_path, samples.topcon(chunks, variant)))
    assert volume.bscans.shape == (3, 40, 50)
    assert volume.laterality == ("L" if variant == b"FDS" else "R")
    assert volume.fundus is not None and volume.fundus.shape[2] == 3
    reflectivity = np.stack([samples.scan(number=n) for n in range(3)])
    scaled = volume.bscans / (60000 if variant == b"FDS" else 255)
    assert np.abs(scaled - reflectivity).max() < (1e-4 if variant == b"FDS" else 0.02)


def test_topcon_scales_come_from_the_scanned_field(tmp_path: Path) -> None:
    volume = read_topcon(written(tmp_path, samples.topcon()))
    assert volume.spacing_mm == OctSpacing(0.0035, 6 / 50, 0.06 / 3)


def test_a_heyex_export_agrees_with_the_vol_file_of_the_same_scan(tmp_path: Path) -> None:
    volume = read_heyex_xml(written(tmp_path, samples.heyex_xml(), "index.xml"), pictures(tmp_path))
    assert np.array_equal(volume.bscans, SHOWN)
    assert volume.laterality == "L"
    assert volume.spacing_mm is not None and volume.spacing_mm.between == pytest.approx(0.03)
    assert volume.fundus is not None and volume.fundus.shape == (20, 30)


def test_a_heyex_export_without_its_pictures_is_refused(tmp_path: Path) -> None:
    index = written(tmp_path, samples.heyex_xml(), "index.xml")
    with pytest.raises(Invalid, match="3 of the 3 pictures that the HEYEX XML lists did not come"):
        read_oct(index, Format.HEYEX_XML)


def test_a_heyex_export_reads_no_file_that_it_was_not_given(tmp_path: Path) -> None:
    content = samples.heyex_xml().replace(b"B1.tif", b"..\\..\\etc\\passwd")
    with pytest.raises(Invalid, match="1 of the 3"):
        read_heyex_xml(written(tmp_path, content, "index.xml"), pictures(tmp_path))


LAUGHS = '<!DOCTYPE HEDX [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("doctype", [LAUGHS, '<!DOCTYPE HEDX SYSTEM "file:///etc/passwd">'])
def test_entities_in_xml_are_refused(tmp_path: Path, doctype: str) -> None:
    with pytest.raises(Invalid, match="document type or entities"):
        read_heyex_xml(written(tmp_path, samples.heyex_xml(doctype=doctype)), {})


@pytest.mark.parametrize(
    "content",
    [
        b"<HEDX>" * 100,
        b"<HEDX>" + b"<a/>" * 600_000 + b"</HEDX>",
        b"<HEDX " + b" ".join(b'a%x=">"' % n for n in range(200_000)) + b"></HEDX>",
        b"<HEDX>" + b"<Image/>" * 9000 + b"</HEDX>",
        samples.heyex_xml()[:-20],
        samples.heyex_xml(scans=0),
        samples.heyex_xml().replace(b"UTF-8", b"no-such"),
        samples.heyex_xml().replace(b"B2.tif", b"NIR1.tif"),
    ],
    ids=[
        "deep",
        "wide",
        "many attributes",
        "many images",
        "cut short",
        "no scans",
        "unknown encoding",
        "scans of two sizes",
    ],
)
def test_hostile_xml_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((Invalid, UnsupportedImage)) as refused:
        read_heyex_xml(written(tmp_path, content, "index.xml"), pictures(tmp_path))
    assert "DOE" not in refused.value.detail


@pytest.mark.parametrize("name", ["png", "png, 16 bits", "jpeg", "tiff"])
def test_a_picture_is_one_b_scan_without_scale(tmp_path: Path, name: str) -> None:
    (volume,) = read_oct(written(tmp_path, samples.valid()[name]), Format(name.split(",")[0]))
    assert volume.bscans.shape == (1, 40, 50)
    assert (volume.spacing_mm, volume.laterality) == (None, None)
    assert "does not say" in volume.spacing_note


@pytest.mark.parametrize(
    ("axial", "lateral", "between", "says"),
    [
        (None, 0.01, 0.03, "does not say"),
        (3.87, 0.0118, 0.03, "pixel depth of 3870 µm"),
        (0.00387, 3.0, 0.03, "pixel width of 3000 µm"),
        (0.00387, 0.0118, 40.0, "distance between scans"),
        (float("nan"), 0.0118, 0.03, "depth of nan"),
        (0.0, 0.0118, 0.03, "depth of 0 "),
        (-0.004, 0.0118, 0.03, "depth of -4 "),
    ],
)
def test_an_implausible_scale_is_refused_for_measuring(
    axial: float | None, lateral: float | None, between: float | None, says: str
) -> None:
    spacing, note = validated_spacing(axial, lateral, between, 19)
    assert spacing is None
    assert says in note


@pytest.mark.parametrize("pattern", [2, 5])
def test_scans_that_are_not_parallel_have_no_distance(tmp_path: Path, pattern: int) -> None:
    volume = read_vol(written(tmp_path, samples.vol(pattern=pattern)))
    assert volume.spacing_mm == OctSpacing(0.00387, 0.0118, None)
    radial = read_topcon(written(tmp_path, samples.topcon(samples.fds_chunks(mode=3))))
    assert radial.spacing_mm is not None and radial.spacing_mm.between is None


def test_an_unknown_eye_is_none(tmp_path: Path) -> None:
    assert read_vol(written(tmp_path, samples.vol(eye=b"??"))).laterality is None
    assert read_topcon(written(tmp_path, samples.topcon(samples.fds_chunks(eye=7)))).laterality is None


def nan_vol() -> bytes:
    return samples.vol()[:-8] + struct.pack("<2f", float("nan"), 0)


E2E_BEYOND = samples.e2e()[:-2000]
HOSTILE: dict[str, tuple[object, bytes, type[HounsfieldError], str]] = {
    "vol: cut in its header": (read_vol, samples.vol()[:900], TruncatedImage, "inside its header"),
    "vol: cut in a B-scan": (read_vol, samples.vol()[:-1], Invalid, "too short|ends inside"),
    "vol: 2^32 scans": (read_vol, samples.vol(scans=1, width=2**32 - 1), ImplausibleImage, "are plausible"),
    "vol: more than the limit": (
        read_vol,
        samples.vol(scans=1, width=16000, height=16000),
        TooLarge,
        "16,000 × 16,000 pixels; the limit",
    ),
    "vol: no scans": (read_vol, samples.vol(scans=0), ImplausibleImage, "0 B-scans"),
    "vol: a header of 4 GiB": (
        read_vol,
        samples.vol(scan_header=2**32 - 1),
        ImplausibleImage,
        "4,294,967,295 bytes",
    ),
    "vol: NaN": (read_vol, nan_vol(), ImplausibleImage, "contains NaN"),
    "e2e: a loop": (read_e2e, samples.e2e(loop=True), ImplausibleImage, "in a loop"),
    "e2e: cut short": (read_e2e, E2E_BEYOND, TruncatedImage, "beyond its end"),
    "e2e: no B-scans": (
        read_e2e,
        samples.e2e(samples.e2e_chunks(scans=0)),
        UnsupportedImage,
        "no OCT B-scans",
    ),
    "e2e: another file": (read_e2e, samples.vol(), UnsupportedImage, "no Heidelberg"),
    "e2e: huge image": (
        read_e2e,
        samples.e2e([(0x40000000, 1, 1, 0, struct.pack("<5I", 0, 0, 0, 2**31, 2**31))]),
        ImplausibleImage,
        "are plausible",
    ),
    "e2e: scans of two sizes": (
        read_e2e,
        samples.e2e(
            [(0x40000000, 1, 1, 2 * n, struct.pack("<5I", 0, 0, 0, 2 + n, 2) + bytes(20)) for n in range(2)]
        ),
        ImplausibleImage,
        "differ in size",
    ),
    "e2e: a scan of a huge number": (
        read_e2e,
        samples.e2e([(0x40000000, 1, 1, 2**31 - 1, struct.pack("<5I", 0, 0, 0, 2, 2) + bytes(20))]),
        ImplausibleImage,
        "numbers a B-scan",
    ),
    "e2e: 2^32 entries": (
        read_e2e,
        samples.e2e([]).replace(struct.pack("<4I", 0, 88, 0, 0), struct.pack("<4I", 2**32 - 1, 88, 0, 0)),
        ImplausibleImage,
        "4,294,967,295 entries",
    ),
    "topcon: another file": (read_topcon, samples.vol(), UnsupportedImage, "begin with FOCT"),
    "topcon: a chunk beyond the end": (
        read_topcon,
        samples.topcon()[:15] + b"\x02@A\xff\xff\xff\xff" + bytes(40),
        TruncatedImage,
        "length is wrong",
    ),
    "topcon: endless chunks": (
        read_topcon,
        samples.topcon({})[:-1] + b"\x02@A\x00\x00\x00\x00" * 3000,
        ImplausibleImage,
        "1,000 chunks",
    ),
    "topcon: no B-scans": (read_topcon, samples.topcon({}), UnsupportedImage, "no B-scans"),
    "topcon: huge sizes": (
        read_topcon,
        samples.topcon(samples.fds_chunks(width=2**31, height=2**31)),
        ImplausibleImage,
        "plausible",
    ),
    "topcon: more than the limit": (
        read_topcon,
        samples.topcon(samples.fds_chunks(width=4000, height=4000, scans=4000)),
        TooLarge,
        "the limit",
    ),
    "topcon: sizes over its chunk": (
        read_topcon,
        samples.topcon(samples.fds_chunks(width=500)),
        TruncatedImage,
        "chunk is too short",
    ),
    "topcon: 8 bits": (
        read_topcon,
        samples.topcon(samples.fds_chunks(bits=8)),
        UnsupportedImage,
        "of 8 bits",
    ),
    "topcon: a damaged B-scan": (
        read_topcon,
        samples.topcon(
            {b"@IMG_JPEG": struct.pack("<B6I", 2, 0, 0, 50, 40, 1, 0) + struct.pack("<I", 9) + b"no JPEG2k"}
        ),
        TruncatedImage,
        "damaged",
    ),
    "topcon: B-scans that lie about their size": (
        read_topcon,
        samples.topcon(
            {
                b"@IMG_JPEG": samples.fda_chunks()[b"@IMG_JPEG"].replace(
                    struct.pack("<2I", 50, 40), struct.pack("<2I", 51, 40), 1
                )
            }
        ),
        Invalid,
        "size that its header says",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_their_reason(tmp_path: Path, name: str) -> None:
    read, content, outcome, says = HOSTILE[name]
    with pytest.raises(outcome, match=says) as refused:
        read(written(tmp_path, content))  # type: ignore[operator]
    assert "DOE" not in refused.value.detail


def test_no_name_of_a_patient_is_kept(tmp_path: Path) -> None:
    for name, found in (("vol", Format.VOL), ("e2e", Format.E2E), ("fds", Format.TOPCON)):
        for volume in read_oct(written(tmp_path, samples.valid()[name]), found):
            assert samples.SECRET.decode() not in repr(vars(volume))
