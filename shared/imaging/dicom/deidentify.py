"""De-identification of a DICOM image: PS3.15 Basic Profile with Clean Descriptors and Retain Longitudinal Temporal
Information with Modified Dates; of the patient's characteristics age and sex stay.

docs/deidentification.md says what that means; `deid_rules` holds which attribute is treated how.
"""

from dataclasses import dataclass
from typing import BinaryIO, Final
from uuid import UUID

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError

from shared.imaging.dicom import deid_holds
from shared.imaging.dicom.deid_cleaner import MOST_TOKENS, Cleaner, tokens_of
from shared.imaging.dicom.deid_elements import READ_ERRORS, Encoding, Opener, charsets_of
from shared.imaging.dicom.deid_header import (
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    TIMES_MODIFIED,
    Header,
    Identity,
    encoding_of,
)
from shared.imaging.dicom.deid_holds import CannotDeidentify, Hold
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from shared.imaging.dicom.deid_text import Mentions
from shared.imaging.dicom.deid_write import file_of, marks, meta_information, write, write_elements
from shared.imaging.dicom.errors import DamagedDicom, NotDicom

__all__ = ["CannotDeidentify", "Cleaned", "Deidentifier", "Hold", "Identity", "write"]

_MOST_CLEANERS: Final = 16


@dataclass(frozen=True)
class Cleaned:
    """An image without its patient. Where `holds` is not empty, a person has to look before it is passed on."""

    dataset: FileDataset
    identity: Identity
    holds: tuple[Hold, ...]


@dataclass(frozen=True)
class _Parts:
    """A de-identified image before it is a data set or a file. elements: by tag."""

    elements: list[RawDataElement]
    meta: FileMetaDataset
    encoding: Encoding
    header: Header

    def cleaned(self) -> Cleaned:
        dataset = file_of(self.elements, self.meta, self.encoding)
        return Cleaned(dataset, self.header.identity, self.header.holds())


class Deidentifier:
    """De-identifies the images of one tenant. secret: the deployment's, for this purpose; 32 bytes.

    One serves any number of images, and remembers what it did to values that many of them share; it is not for
    several threads at once.
    """

    def __init__(self, secret: bytes, tenant: UUID) -> None:
        self.pseudonyms = Pseudonyms(secret, tenant)
        self._opener = Opener()
        self._cleaners: dict[tuple[frozenset[str], int, str], Cleaner] = {}

    def clean_file(
        self, source: BinaryIO, target: BinaryIO, pseudonym: str, *, pixels: bool = True
    ) -> Cleaned:
        """Read a file, clean it, and write it, also when it is to be held. Errors as `clean`, and NotDicom.

        pixels: False leaves out the pixels and what follows them; the caller copies them from `source` as they are
        (`Pixels.head` to `Pixels.end`), which takes no memory; not for deflated files.
        `headers.read_header` has to have seen the file before: it bounds what a deflated one may become.
        """
        try:
            dataset = dcmread(source, stop_before_pixels=not pixels)
        except InvalidDicomError:
            raise NotDicom(
                "The file has neither DICOM's preamble nor begins with elements of group 2 or 8."
            ) from None
        except READ_ERRORS:
            raise DamagedDicom("The file breaks the DICOM encoding.") from None
        parts = self._parts(dataset, pseudonym)
        write_elements(parts.elements, parts.meta, parts.encoding, target)
        return parts.cleaned()

    def clean(self, dataset: Dataset, pseudonym: str) -> Cleaned:
        """A de-identified copy, which shares the pixels; `dataset` stays as it is. pseudonym: the new Patient ID.

        Cleaning again what this has cleaned changes nothing. Raises CannotDeidentify for documents and the like,
        DamagedDicom where the header cannot be read.
        """
        return self._parts(dataset, pseudonym).cleaned()

    def _parts(self, dataset: Dataset, pseudonym: str) -> "_Parts":
        if (
            not (pseudonym.isascii() and pseudonym.isprintable() and 0 < len(pseudonym) <= 64)
            or "\\" in pseudonym
        ):
            raise ValueError("a pseudonym has 1 to 64 printable ASCII characters, and no backslash")
        try:
            return self._clean(dataset, pseudonym)
        except READ_ERRORS:
            raise DamagedDicom("The header has values that cannot be read.") from None

    def _clean(self, dataset: Dataset, pseudonym: str) -> "_Parts":
        encoding, charsets = encoding_of(dataset), charsets_of(dataset)
        nodes = self._opener.nodes(dataset, encoding, charsets)
        header = Header(dataset, nodes, charsets)
        deid_holds.refuse(header.sop_class, header.tags)
        tokens = frozenset(tokens_of(nodes, charsets, pseudonym))
        if len(tokens) > MOST_TOKENS:
            raise CannotDeidentify(
                f"The header has more than {MOST_TOKENS:,} different names and identifiers."
            )
        cleaner = self._cleaner(header, tokens, pseudonym)
        instance = self.pseudonyms.uid(header.sop_instance)
        added = (
            *marks(encoding, pseudonym),
            encoding.raw(SOP_CLASS, "UI", header.sop_class.encode("ascii")),
            encoding.raw(SOP_INSTANCE, "UI", instance.encode("ascii")),
        )
        elements = {int(element.tag): element for element in (*cleaner.cleaned(nodes, encoding), *added)}
        meta = meta_information(header.sop_class, instance, header.transfer_syntax(encoding))
        return _Parts([elements[tag] for tag in sorted(elements)], meta, encoding, header)

    def _cleaner(self, header: Header, tokens: frozenset[str], pseudonym: str) -> Cleaner:
        """The cleaner for images of these people. Dates that this has moved before are not moved again."""
        moved = self.pseudonyms.made(header.sop_instance) and header.text(TIMES_MODIFIED) == "MODIFIED"
        days = 0 if moved else self.pseudonyms.days(header.identity.patient_id or header.text(STUDY))
        key = (tokens, days, pseudonym)
        if key not in self._cleaners:
            if len(self._cleaners) >= _MOST_CLEANERS:
                self._cleaners.clear()
            self._cleaners[key] = Cleaner(self.pseudonyms, Mentions(tokens), days, pseudonym)
        return self._cleaners[key]
