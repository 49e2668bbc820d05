"""What de-identification has to know of a whole image: what kind it is, whose, how it is encoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.charset import decode_bytes
from pydicom.config import IGNORE
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from shared.imaging.dicom import deid_holds
from shared.imaging.dicom.deid_elements import Encoding, Node
from shared.imaging.dicom.deid_holds import CannotDeidentify, Hold
from shared.imaging.dicom.deid_rules import PATIENT_ID, PATIENT_NAME

SOP_CLASS, SOP_INSTANCE, STUDY, BIRTH_DATE = 0x00080016, 0x00080018, 0x0020000D, 0x00100030
TIMES_MODIFIED = 0x00280303
_DELIMITERS: Final = {ord("^"), ord("="), ord("\\")}


@dataclass(frozen=True, repr=False)
class Identity:
    """Who the patient is, as the file says it. Never logged (it has no repr); sealed where it is kept."""

    name: str
    """As DICOM writes it: `Family^Given^Middle`, other scripts after `=`."""
    patient_id: str
    birth_date: str
    """YYYYMMDD, or what the file says instead."""


class Header:
    """The top level of a data set, by tag."""

    def __init__(self, dataset: Dataset, nodes: Sequence[Node], charsets: tuple[str, ...]) -> None:
        self.tags = {int(node.tag): node for node in nodes}
        self._meta = getattr(dataset, "file_meta", None) or Dataset()
        self._charsets = charsets

    def text(self, tag: int) -> str:
        """A value as text; empty where there is none."""
        node = self.tags.get(tag)
        return text_of(node.value or b"", self._charsets) if isinstance(node, RawDataElement) else ""

    @property
    def sop_class(self) -> str:
        """What kind of object it is; of the file's meta information where the data set does not say."""
        return self.text(SOP_CLASS) or str(self._meta.get("MediaStorageSOPClassUID") or "")

    @property
    def sop_instance(self) -> str:
        """Which object it is. Raises CannotDeidentify where nothing says."""
        uid = self.text(SOP_INSTANCE) or str(self._meta.get("MediaStorageSOPInstanceUID") or "")
        if not uid:
            raise CannotDeidentify("The file does not say which object it is (SOP Instance UID).")
        return uid

    @property
    def identity(self) -> Identity:
        """The patient."""
        return Identity(self.text(PATIENT_NAME), self.text(PATIENT_ID), self.text(BIRTH_DATE))

    def holds(self) -> tuple[Hold, ...]:
        """Why a person has to look at the image."""
        values = {tag: self.text(tag) for tag in deid_holds.HELD_BY if tag in self.tags}
        embedded = deid_holds.is_overlay_in_pixels(self.tags)
        return deid_holds.holds({**values, deid_holds.SOP_CLASS: self.sop_class}, embedded)

    def transfer_syntax(self, encoding: Encoding) -> str:
        """As the file's meta information says; the plain one of the encoding where it says nothing or is wrong.

        Raises CannotDeidentify for one that is not known, ValueError where the elements of compressed pixels are
        not encoded as it says.
        """
        plain = ImplicitVRLittleEndian if encoding.implicit else ExplicitVRLittleEndian
        plain = plain if encoding.little else ExplicitVRBigEndian
        stated = UID(str(self._meta.get("TransferSyntaxUID") or plain), IGNORE)
        if stated.is_private or stated.type != "Transfer Syntax":
            raise CannotDeidentify("The file's transfer syntax is not known.")
        if (stated.is_implicit_VR, stated.is_little_endian) == (encoding.implicit, encoding.little):
            return str(stated)
        if stated.is_compressed:
            raise ValueError("the elements are not encoded as the transfer syntax says")
        return str(plain)


def text_of(value: bytes, charsets: tuple[str, ...]) -> str:
    """A text value in Unicode."""
    return decode_bytes(value, list(charsets), _DELIMITERS).strip(" \0")


def encoding_of(dataset: Dataset) -> Encoding:
    """How the data set was read, or is to be written; raises ValueError where nothing says."""
    implicit, little = dataset.original_encoding
    if implicit is not None and little is not None:
        return Encoding(implicit, little)
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None or syntax.is_private:
        raise ValueError("neither read from a file nor given a transfer syntax")
    return Encoding(syntax.is_implicit_VR, syntax.is_little_endian)


def is_deflated(syntax: str) -> bool:
    """Whether everything after the file's meta information is compressed."""
    return syntax == DeflatedExplicitVRLittleEndian
