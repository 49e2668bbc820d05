"""The de-identified file: its marks, its meta information, and its bytes."""

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO, Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import BaseTag

from shared.imaging.dicom.deid_elements import Encoding, charsets_of
from shared.imaging.dicom.deid_header import is_deflated
from shared.imaging.dicom.deid_rules import EDITION, PATIENT_ID, PATIENT_NAME

IMPLEMENTATION_CLASS_UID: Final = "2.25.311498723051387250764131246213217236812"
"""Says in every file that this platform wrote it."""
IMPLEMENTATION_VERSION: Final = "HOUNSFIELD"
METHODS: Final = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)
"""Codes of PS3.16 CID 7050."""
METHOD: Final = f"Hounsfield: DICOM PS3.15 {EDITION} Annex E\\Age and sex retained only"

_META = Encoding(implicit=False, little=True)
_PREAMBLE = bytes(128)


@lru_cache(maxsize=64)
def marks(encoding: Encoding, pseudonym: str) -> tuple[RawDataElement, ...]:
    """What PS3.15 §E.1.1 has a de-identifier write, and the patient's new name and ID."""
    codes = (
        b"".join(
            part
            for tag, vr, value in (
                (0x00080100, "SH", code),
                (0x00080102, "SH", "DCM"),
                (0x00080104, "LO", meaning),
            )
            for part in encoding.encoded(encoding.raw(tag, vr, value.encode("ascii")))
        )
        for code, meaning in METHODS
    )
    return (
        encoding.raw(PATIENT_NAME, "PN", b""),
        encoding.raw(PATIENT_ID, "LO", pseudonym.encode("ascii")),
        encoding.raw(0x00120062, "CS", b"YES"),  # Patient Identity Removed
        encoding.raw(0x00120063, "LO", METHOD.encode("ascii")),
        encoding.raw(0x00120064, "SQ", encoding.items(codes)),
        encoding.raw(0x00280303, "CS", b"MODIFIED"),  # Longitudinal Temporal Information Modified
    )


def meta_information(sop_class: str, sop_instance: str, transfer_syntax: str) -> FileMetaDataset:
    """Group 2 of the file, none of the original's in it."""
    values = (
        (0x00020002, "UI", sop_class),
        (0x00020003, "UI", sop_instance),
        (0x00020010, "UI", transfer_syntax),
        (0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
        (0x00020013, "SH", IMPLEMENTATION_VERSION),
    )
    elements = [_META.raw(0x00020001, "OB", b"\0\1")]
    elements += [_META.raw(tag, vr, value.encode("ascii")) for tag, vr, value in values]
    return FileMetaDataset({element.tag: element for element in elements})


def file_of(elements: Iterable[RawDataElement], meta: FileMetaDataset, encoding: Encoding) -> FileDataset:
    """A data set of these elements."""
    known: dict[BaseTag, DataElement | RawDataElement] = {element.tag: element for element in elements}
    return FileDataset("", known, _PREAMBLE, meta, encoding.implicit, encoding.little)


def write(dataset: FileDataset, file: BinaryIO) -> None:
    """Write a de-identified data set as a DICOM file: pixels and every other kept value byte for byte.

    Elements that someone has looked at since are encoded again, from what pydicom made of them.
    """
    implicit, little = dataset.original_encoding
    encoding = Encoding(bool(implicit), bool(little))
    write_elements(_raw_elements(dataset, encoding), dataset.file_meta, encoding, file)


def write_elements(
    elements: Iterable[RawDataElement], meta: FileMetaDataset, encoding: Encoding, file: BinaryIO
) -> None:
    """Write the elements, which are in order of their tags; `Dataset.save_as` copies pixels and takes twice as
    long."""
    group = b"".join(part for element in _raw_elements(meta, _META) for part in _META.encoded(element))
    length = _META.raw(0x00020000, "UL", len(group).to_bytes(4, "little"))
    file.writelines((_PREAMBLE, b"DICM", *_META.encoded(length), group))
    body = (part for element in elements for part in encoding.encoded(element))
    if is_deflated(str(meta.TransferSyntaxUID)):
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        file.writelines(packer.compress(part) for part in body)
        file.write(packer.flush())
    else:
        file.writelines(body)


def _raw_elements(dataset: Dataset, encoding: Encoding) -> Iterator[RawDataElement]:
    charsets = charsets_of(dataset)
    for element in dataset.elements():
        if isinstance(element, RawDataElement):
            yield element
        else:
            yield encoding.from_decoded(element, dataset, charsets)
