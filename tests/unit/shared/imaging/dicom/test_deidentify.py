"""Whole images: nobody is found in them afterwards, and what a reader needs is still there."""

import zlib
from datetime import date
from io import BytesIO

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from shared.imaging.dicom.deid_elements import DEEPEST, Encoding
from shared.imaging.dicom.deid_write import IMPLEMENTATION_CLASS_UID
from shared.imaging.dicom.deidentify import CannotDeidentify, Deidentifier
from shared.imaging.dicom.errors import DamagedDicom, NotDicom
from tests.unit.shared.imaging.dicom.deid_images import (
    FRAME,
    INSTANCE,
    OTHER_TENANT,
    PSEUDONYM,
    REFERENCED,
    ROOT,
    SECRET,
    SERIES,
    STUDY,
    TENANT,
    as_file,
    cleaned,
    deidentifier,
    image,
    read_back,
    reference,
    written,
)

SECRETS = [
    *(
        "qwertowski",
        "zbigniew",
        "Квертовский",
        "квертовский",
        "kunigunde",
        "hosp-7734521",
        "7734521",
        "acc889123",
    ),
    *(
        "xylophon",
        "xylophonweg",
        "plonkhausen",
        "vandersplat",
        "ottokar",
        "blimpson",
        "crumbhorn",
        "xyloct77",
    ),
    *("sn5551212", "qwertaet", "19310507", "20240229", "29.02.2024", "555 123 4567", "093y", ROOT),
]
CHARSETS = ("utf-8", "utf-16-le", "latin-1", "iso8859_5", "koi8-r")


def traces(raw: bytes) -> list[str]:
    """Which of the secrets the bytes hold, in whatever character set and case."""
    lower = {charset: raw.decode(charset, "ignore").casefold() for charset in CHARSETS}
    return sorted({secret for secret in SECRETS for text in lower.values() if secret.casefold() in text})


def test_the_test_finds_what_is_in_an_original() -> None:
    original = BytesIO()
    image().save_as(original, enforce_file_format=True)
    assert set(traces(original.getvalue())) == set(SECRETS)


@pytest.mark.parametrize("decoded", [True, False], ids=["made by a program", "read from a file"])
def test_nothing_that_identifies_anyone_is_left_in_the_file(decoded: bool) -> None:
    original = image() if decoded else as_file(image())
    assert traces(written(deidentifier().clean(original, PSEUDONYM).dataset)) == []


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_encoding_is_kept_and_cleaned(syntax: UID) -> None:
    result = cleaned(as_file(image(syntax)))
    assert result.file_meta.TransferSyntaxUID == syntax
    assert (result.Rows, result.KVP, result.PatientID) == (4, 120, PSEUDONYM)
    assert result.PixelData == image().PixelData
    raw = written(deidentifier().clean(as_file(image(syntax)), PSEUDONYM).dataset)
    if syntax == DeflatedExplicitVRLittleEndian:
        raw = zlib.decompress(raw[144 + int.from_bytes(raw[140:144], "little") :], -zlib.MAX_WBITS)
    assert traces(raw) == []


def test_what_a_reader_needs_is_kept_as_it_was() -> None:
    result = cleaned(as_file(image()))
    kept = (
        "Manufacturer",
        "Modality",
        "ImageType",
        "BodyPartExamined",
        "KVP",
        "ImagePositionPatient",
        "PixelData",
    )
    assert {name: result[name].value for name in kept} == {name: image()[name].value for name in kept}
    assert result.SeriesDescription == "AX 3.0mm B30f Lunge"
    assert result.StudyDescription == "CT Thorax"
    assert result.ConvolutionKernel == "B30f"
    assert result.StudyTime == "131415"


def test_the_caller_gets_the_identity_apart() -> None:
    identity = deidentifier().clean(as_file(image()), PSEUDONYM).identity
    assert identity.name == "Qwertowski^Zbigniew=Квертовский"
    assert (identity.patient_id, identity.birth_date) == ("HOSP-7734521", "19310507")
    assert "Zbigniew" not in f"{identity!r} {identity}"


def test_the_original_is_left_as_it_is() -> None:
    original = as_file(image())
    deidentifier().clean(original, PSEUDONYM)
    assert original == as_file(image())


def test_the_file_says_what_was_done_to_it() -> None:
    result = cleaned(image())
    assert result.PatientIdentityRemoved == "YES"
    assert result.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "PS3.15 2026d" in result.DeidentificationMethod[0]
    codes = [
        (item.CodeValue, item.CodingSchemeDesignator) for item in result.DeidentificationMethodCodeSequence
    ]
    assert codes == [("113100", "DCM"), ("113105", "DCM"), ("113107", "DCM"), ("113108", "DCM")]
    assert (result.PatientName, result.PatientID, result.PatientBirthDate) == ("", PSEUDONYM, "")


def test_the_preamble_and_the_meta_information_are_new() -> None:
    result = cleaned(image())
    assert result.preamble == bytes(128)
    assert result.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in result.file_meta


def test_cleaning_twice_changes_nothing() -> None:
    once = deidentifier().clean(as_file(image()), PSEUDONYM).dataset
    again = deidentifier().clean(read_back(written(once)), PSEUDONYM).dataset
    assert written(again) == written(once)


def test_a_file_that_only_claims_to_be_clean_is_cleaned() -> None:
    claims = image(PatientIdentityRemoved="YES", LongitudinalTemporalInformationModified="MODIFIED")
    assert traces(written(deidentifier().clean(claims, PSEUDONYM).dataset)) == []


def test_images_of_two_uploads_still_belong_together() -> None:
    first = cleaned(image())
    second = cleaned(image(SOPInstanceUID=REFERENCED))
    assert first.ReferencedImageSequence[0].ReferencedSOPInstanceUID == second.SOPInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert first[keyword].value == second[keyword].value
        assert first[keyword].value not in (STUDY, SERIES, FRAME)
    assert first.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage


def test_another_tenant_gets_other_uids_and_dates() -> None:
    ours, theirs = cleaned(image()), cleaned(image(), OTHER_TENANT)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert ours[keyword].value != theirs[keyword].value


def test_the_time_between_two_studies_of_a_patient_is_kept() -> None:
    dates = [date.fromisoformat(cleaned(image(StudyDate=day)).StudyDate) for day in ("20240229", "20240310")]
    assert (dates[1] - dates[0]).days == 10
    other = cleaned(image(PatientID="SOMEONE-ELSE"))
    assert other.StudyDate != cleaned(image()).StudyDate


def test_dates_inside_sequences_move_with_the_others() -> None:
    result = cleaned(as_file(image()))
    assert result.ReferencedImageSequence[0].StudyDate == result.StudyDate
    assert result.AcquisitionDateTime == f"{result.StudyDate}131415.250000"


def test_without_an_id_the_images_of_a_study_stay_together_in_time() -> None:
    first, second = (cleaned(image(PatientID="", SOPInstanceUID=uid)) for uid in (INSTANCE, REFERENCED))
    other = cleaned(image(PatientID="", StudyInstanceUID=REFERENCED))
    assert first.StudyDate == second.StudyDate != other.StudyDate


def test_an_unreadable_date_is_left_out() -> None:
    result = cleaned(image_with_raw(0x00080022, "DA", b"Februar "))
    assert not result.AcquisitionDate
    result = cleaned(image_with_raw(0x00080012, "DA", b"Februar "))
    assert "InstanceCreationDate" not in result


def image_with_raw(tag: int, vr: str, value: bytes) -> FileDataset:
    """The image with an element that pydicom would not make."""
    dataset = as_file(image())
    dataset[tag] = Encoding(False, True).raw(tag, vr, value)
    return dataset


@pytest.mark.parametrize(
    ("charset", "name", "codec"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "iso2022_jp"),
        (["ISO 2022 IR 6", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "euc_kr"),
        (["ISO_IR 100"], "Müller^Jörg", "latin-1"),
        (["GB18030"], "Wang^XiaoDong=王^小东", "gb18030"),
    ],
)
def test_names_are_found_in_whatever_character_set(charset: list[str], name: str, codec: str) -> None:
    parts = [part for group in name.split("=") for part in group.split("^")]
    mention = f"Protocol of {parts[0]} {parts[1]}"
    original = as_file(
        image(
            SpecificCharacterSet=charset,
            PatientName=name,
            SeriesDescription=f"Head {parts[-1]} {parts[0].upper()}",
            ManufacturerModelName=mention,
            FilterType="MUELLER" if "Müller" in name else parts[0].casefold(),
        )
    )
    cleaner = deidentifier().clean(original, PSEUDONYM)
    assert cleaner.identity.name == name
    raw = written(cleaner.dataset)
    for part in parts:
        for encoded in {part.encode(charset, "ignore") for charset in (codec, "utf-8", "latin-1")} - {b""}:
            assert encoded not in raw
    result = read_back(raw)
    assert (result.ManufacturerModelName, result.FilterType) == ("REMOVED", "REMOVED")
    assert result.get("SeriesDescription", "Head") == "Head"


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
@pytest.mark.parametrize(("stated", "codec"), [("ISO_IR 100", "utf-8"), ("ISO_IR 192", "latin-1")])
def test_names_are_found_although_the_character_set_is_not_the_one_stated(stated: str, codec: str) -> None:
    dataset = image_with_raw(0x00100010, "PN", "Wójcik^Émile".encode(codec))
    dataset[0x00080005] = Encoding(False, True).raw(0x00080005, "CS", stated.encode())
    dataset[0x00181160] = Encoding(False, True).raw(0x00181160, "SH", b"by Wojcik")
    dataset[0x00181210] = Encoding(False, True).raw(0x00181210, "SH", b"EMILE")
    result = cleaned(dataset)
    assert (result.FilterType, result.ConvolutionKernel) == ("REMOVED", "REMOVED")


def test_a_body_part_stays_although_the_patient_is_called_so() -> None:
    result = cleaned(image(PatientName="Head^Ge", BodyPartExamined="HEAD", SeriesDescription="Head axial"))
    assert (result.BodyPartExamined, result.Manufacturer, result.SeriesDescription) == (
        "HEAD",
        "SIEMENS",
        "axial",
    )


def test_private_attributes_overlays_and_curves_go_at_every_level() -> None:
    original = image()
    for dataset in (original, original.ReferencedImageSequence[0]):
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
        dataset.add_new(0x60000010, "US", 4)
        dataset.add_new(0x60003000, "OW", b"\1\0")
        dataset.add_new(0x50000005, "US", 1)
    result = cleaned(original)
    for element in result.iterall():
        assert not element.tag.is_private
        assert element.tag.group >> 8 not in (0x50, 0x60)


def test_standard_attributes_that_are_stored_as_unknown_are_cleaned_too() -> None:
    original = as_file(image())
    inner = image_with_raw(0x00081140, "UN", _implicit_item())
    inner[0x00100010] = original[0x00100010].__class__(0x00100010, "UN", b"Qwertowski^Zbigniew")
    result = cleaned(inner)
    assert traces(written(deidentifier().clean(inner, PSEUDONYM).dataset)) == []
    assert result.ReferencedImageSequence[0].ReferencedSOPInstanceUID == deidentifier().pseudonyms.uid(
        REFERENCED
    )


def _implicit_item() -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, reference())
    item = buffer.getvalue()
    return b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item


def test_a_value_in_the_wrong_kind_of_attribute_goes() -> None:
    result = cleaned(image_with_raw(0x00280010, "LO", b"Zbigniew"))
    assert "Rows" not in result
    result = cleaned(image_with_raw(0x00180060, "DS", b"Zbigniew"))
    assert "KVP" not in result


def test_attributes_that_no_dictionary_knows_go() -> None:
    assert 0x00180FFE not in cleaned(image_with_raw(0x00180FFE, "LO", b"whatever"))


def test_compressed_pixels_are_copied_byte_for_byte() -> None:
    original = image()
    original.compress(RLELossless)
    result = cleaned(as_file(original))
    assert result.PixelData == original.PixelData
    assert result.file_meta.TransferSyntaxUID == RLELossless
    assert (result.pixel_array == image().pixel_array).all()


def test_elements_that_were_looked_at_are_written_all_the_same() -> None:
    untouched = deidentifier().clean(as_file(image()), PSEUDONYM).dataset
    looked = deidentifier().clean(as_file(image()), PSEUDONYM).dataset
    for _ in looked.iterall():
        pass
    assert written(looked) == written(untouched)


def test_sequences_without_end_are_refused() -> None:
    innermost = reference()
    for _ in range(DEEPEST + 1):
        item = Dataset()
        item.ReferencedImageSequence = Sequence([innermost])
        innermost = item
    original = image()
    original.SourceImageSequence = Sequence([innermost])
    with pytest.raises(DamagedDicom, match="nested"):
        cleaned(as_file(original))


@pytest.mark.parametrize(
    "raw", [b"", b"no dicom at all", b"\0" * 300, b"\0" * 128 + b"DICM" + b"\x08\0\x05\0CS\xff\xff"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_dicom_is_refused(raw: bytes) -> None:
    with pytest.raises((NotDicom, DamagedDicom, CannotDeidentify)):
        deidentifier().clean_file(BytesIO(raw), BytesIO(), PSEUDONYM)


@pytest.mark.parametrize(
    "value", [b"Zbigniew Qwertowski ", b"\xfe\xff\x00\xe0\x0c\0\0\0Zbigniew", b"\xfe\xff"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sequence_of_no_items_is_refused_or_emptied(value: bytes) -> None:
    try:
        result = deidentifier().clean(image_with_raw(0x00081140, "SQ", value), PSEUDONYM)
    except DamagedDicom:
        return
    assert traces(written(result.dataset)) == []


def test_elements_that_contradict_the_transfer_syntax_are_written_as_they_are_encoded() -> None:
    original = as_file(image())
    original.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert cleaned(original).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    original.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert cleaned(original).Rows == 4


@pytest.mark.parametrize("pseudonym", ["", "Jürgen", "x" * 65, "a\\b", "a\nb"])
def test_a_pseudonym_that_dicom_cannot_hold_is_refused(pseudonym: str) -> None:
    with pytest.raises(ValueError, match="pseudonym"):
        deidentifier().clean(image(), pseudonym)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Deidentifier(SECRET[:16], TENANT)
