import re
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from shared.errors import TooLarge
from shared.imaging.dicom import headers
from shared.imaging.dicom.headers import read_header
from tests.unit.shared.imaging.dicom.builders import (
    AXIAL,
    ENHANCED_MR,
    dataset,
    make_enhanced,
    make_image,
    save,
)


def test_a_header_tells_what_the_rest_needs(tmp_path: Path) -> None:
    image = make_image(
        Modality="MR",
        SeriesDescription="AX T1 POST",
        ContrastBolusAgent="Gadovist",
        RepetitionTime=500,
        EchoTime=12,
        InversionTime=900,
        FlipAngle=70,
        ScanningSequence="SE",
        GantryDetectorTilt=-5.5,
        BodyPartExamined="HEAD",
        Laterality="L",
        BurnedInAnnotation="YES",
        StudyDate="20260102",
        AcquisitionNumber=3,
    )
    header = read_header(save(image, tmp_path / "a"))

    assert (header.modality, header.series_description, header.contrast_agent) == (
        "MR",
        "AX T1 POST",
        "Gadovist",
    )
    assert (header.repetition_ms, header.echo_ms, header.inversion_ms, header.flip_deg) == (500, 12, 900, 70)
    assert (header.gantry_tilt_deg, header.body_part, header.laterality, header.burned_in) == (
        -5.5,
        "HEAD",
        "L",
        "YES",
    )
    assert (header.study_date, header.acquisition_number, header.scanning_sequence) == (
        "20260102",
        3,
        ("SE",),
    )
    (frame,) = header.frames
    assert (frame.position, frame.orientation, frame.spacing) == ((-10, -20, 30), AXIAL, (0.75, 0.5))
    assert (frame.slope, frame.intercept, frame.thickness) == (1, -1024, 2)
    assert header.pixels is not None
    assert (header.pixels.rows, header.pixels.columns, header.pixels.signed) == (6, 8, True)
    assert header.study_uid == "1.2.3.4" and header.sop_uid == image.SOPInstanceUID


def test_neither_names_nor_free_text_are_in_its_repr(tmp_path: Path) -> None:
    image = make_image(SeriesDescription="Jane Doe head", ProtocolName="for Jane", StudyDescription="Doe")
    shown = repr(read_header(save(image, tmp_path / "Doe")))
    assert not re.search("Jane|Doe|4711", shown)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_encoding_reads_the_same(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    image = make_enhanced([(0, 0, 2.0 * k) for k in range(3)])
    plain = read_header(save(image, tmp_path / "a"))
    image.file_meta.TransferSyntaxUID = syntax
    other = read_header(save(image, tmp_path / "b"))
    assert other.frames == plain.frames and other.sop_uid == plain.sop_uid
    assert other.transfer_syntax == syntax


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    image = make_image()
    image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    assert read_header(save(image, tmp_path / "a")).frames[0].position == (-10, -20, 30)


def test_a_file_without_preamble_is_read_when_it_plainly_begins_as_dicom_does(tmp_path: Path) -> None:
    whole = save(make_image(), tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(whole[132:])  # begins with group 2
    assert read_header(tmp_path / "b").frames[0].position == (-10, -20, 30)

    (tmp_path / "c").write_bytes(whole[whole.index(b"\x08\x00\x08\x00CS") :])  # begins with group 8
    assert read_header(tmp_path / "c").frames[0].position == (-10, -20, 30)


def test_text_is_read_in_the_character_set_that_the_header_names(tmp_path: Path) -> None:
    image = make_image(SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel nativ")
    assert read_header(save(image, tmp_path / "a")).series_description == "Schädel nativ"
    image = make_image(SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="頭部")
    assert read_header(save(image, tmp_path / "b")).series_description == "頭部"


def test_frames_of_an_enhanced_file_carry_shared_and_own_geometry(tmp_path: Path) -> None:
    image = make_enhanced([(1, 2, 3), (1, 2, 5)], Modality="MR")
    image.SOPClassUID = ENHANCED_MR
    image.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence = [
        dataset(RepetitionTime=2000, FlipAngle=90)
    ]
    image.SharedFunctionalGroupsSequence[0].MREchoSequence = [dataset(EffectiveEchoTime=100.0)]
    header = read_header(save(image, tmp_path / "a"))
    assert [frame.position for frame in header.frames] == [(1, 2, 3), (1, 2, 5)]
    assert {frame.spacing for frame in header.frames} == {(0.75, 0.5)}
    assert {frame.intercept for frame in header.frames} == {-1024}
    assert (header.repetition_ms, header.echo_ms, header.flip_deg) == (2000, 100, 90)


def test_a_report_has_no_pixels(odd: Path) -> None:
    header = read_header(odd / "highdicom" / "sr_document.dcm")
    assert header.modality == "SR" and header.pixels is None and header.frames == ()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # as an anonymiser wrote one of them
def test_real_headers_read_as_pydicom_reads_them(lidc: Path, odd: Path) -> None:
    checked = 0
    for path in [*lidc.rglob("*.dcm"), *odd.rglob("*.dcm")]:
        expected = pydicom.dcmread(path, stop_before_pixels=True)
        if expected.get("ImagePositionPatient") is None:
            continue
        header = read_header(path)
        assert header.frames[0].position == tuple(map(float, expected.ImagePositionPatient))
        assert header.frames[0].orientation == tuple(map(float, expected.ImageOrientationPatient))
        uids = (expected[0x0008, 0x0018].value, expected[0x0020, 0x000E].value)
        assert (header.sop_uid, header.series_uid) == uids
        assert header.pixels is not None and header.pixels.rows == expected.Rows
        checked += 1
    assert checked > 200


def test_deflate_is_inflated_no_further_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "MOST_INFLATED", 2**20)
    image = make_image()
    image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    whole = save(image, tmp_path / "a").read_bytes()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = whole.index(pydicom.uid.DeflatedExplicitVRLittleEndian.encode()) + 22
    bomb = squeeze.compress(bytes(50 * 2**20)) + squeeze.flush()
    (tmp_path / "b").write_bytes(whole[:start] + bomb)
    with pytest.raises(TooLarge, match="limit protects"):
        read_header(tmp_path / "b")
