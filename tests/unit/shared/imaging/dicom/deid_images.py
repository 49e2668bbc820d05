"""Images of a patient who must not be found in them afterwards."""

from io import BytesIO
from uuid import UUID

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from shared.imaging.dicom.deidentify import Deidentifier, write

SECRET = bytes(range(32))
TENANT, OTHER_TENANT = UUID(int=1), UUID(int=2)
PSEUDONYM = "P-0001"
ROOT = "1.2.826.0.1.3680043.99999."
STUDY, SERIES, INSTANCE, FRAME, REFERENCED = (f"{ROOT}{number}" for number in range(1, 6))


def deidentifier(tenant: UUID = TENANT) -> Deidentifier:
    return Deidentifier(SECRET, tenant)


def image(syntax: UID = ExplicitVRLittleEndian, **values: object) -> FileDataset:
    """A CT slice of Zbigniew Qwertowski; keywords set attributes or, when None, leave them out."""
    dataset = FileDataset(
        "",
        {},
        preamble=b"II*\0 Zbigniew".ljust(128),
        file_meta=FileMetaDataset(),
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(INSTANCE)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.SourceApplicationEntityTitle = "QWERTAET"
    fields: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": INSTANCE,
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": FRAME,
        "PatientName": "Qwertowski^Zbigniew=Квертовский",
        "PatientID": "HOSP-7734521",
        "PatientBirthDate": "19310507",
        "PatientSex": "M",
        "PatientAge": "093Y",
        "PatientComments": "brother of Kunigunde Qwertowski",
        "AccessionNumber": "ACC889123",
        "InstitutionName": "Sankt Xylophon Hospital",
        "InstitutionAddress": "Xylophonweg 12, Plonkhausen",
        "ReferringPhysicianName": "Vandersplat^Ottokar",
        "OperatorsName": ["Blimpson^Ada", "Crumbhorn^Bo"],
        "StationName": "XYLOCT77",
        "DeviceSerialNumber": "SN5551212",
        "StudyDate": "20240229",
        "SeriesDate": "20240229",
        "StudyTime": "131415",
        "AcquisitionDateTime": "20240229131415.250000",
        "StudyDescription": "CT Thorax 29.02.2024 Qwertowski",
        "SeriesDescription": "AX 3.0mm B30f Lunge ZBIGNIEW",
        "ProtocolName": "Thorax Vandersplat",
        "ImageComments": "call Zbigniew at 555 123 4567",
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Sensation of Qwertowski",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "ConvolutionKernel": "B30f",
        "KVP": "120",
        "ImagePositionPatient": [-100.5, 20.25, 3],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.5],
        "InstanceNumber": "1",
        "Rows": 4,
        "Columns": 4,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(32)),
    }
    for keyword, value in (fields | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.ReferencedImageSequence = Sequence([reference()])
    dataset.private_block(0x0029, "QWERTOWSKI LTD", create=True).add_new(1, "LO", "Zbigniew Qwertowski")
    return dataset


def reference(uid: str = REFERENCED) -> Dataset:
    """An item that refers to another image, and says more than it should."""
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = uid
    item.PatientName = "Qwertowski^Zbigniew"
    item.StudyDate = "20240229"
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121311", "DCM"
    purpose.CodeMeaning = "Localizer of Zbigniew"
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    return item


def written(dataset: FileDataset) -> bytes:
    """A de-identified data set as a file."""
    file = BytesIO()
    write(dataset, file)
    return file.getvalue()


def read_back(raw: bytes) -> FileDataset:
    return dcmread(BytesIO(raw))


def cleaned(dataset: Dataset, tenant: UUID = TENANT) -> FileDataset:
    """De-identified, written, and read again."""
    return read_back(written(deidentifier(tenant).clean(dataset, PSEUDONYM).dataset))


def as_file(dataset: FileDataset) -> FileDataset:
    """As a file holds it: nothing decoded yet."""
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return read_back(file.getvalue())
