"""De-identifies the images of one study into one tar for each series, in a process of its own.

Run as `python -m shared.imaging.dicom.deid_start`; the order, one line of JSON, comes on the standard input, so that the
secret is in no argument and no environment:

    secret, tenant, patient   patient: the pseudonym
    keep                      true: the images stay as they are, and are only packed
    images, results           files: what to do (a list of `Image`), and what became of it (of `Packed`)

It starts while its caller still unpacks the archive that the images are in.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from pydicom import dcmread
from pydicom.dataset import Dataset

from shared.archives.tar_writer import TarWriter
from shared.errors import Invalid, UnsupportedImage
from shared.imaging.dicom.attributes import describe
from shared.imaging.dicom.deid_elements import READ_ERRORS
from shared.imaging.dicom.deidentify import Cleaned, Deidentifier
from shared.imaging.dicom.instance import DEFLATED

BLOCK = 2**20
MOST_CHARACTERS = 4096
"""Of one value of study or series; the standard allows 64 for nearly all of them."""


@dataclass(frozen=True)
class Image:
    """One file. series: number of its tar, `tar`: its path. head, end: where its pixels are; 0: none, or deflated."""

    path: str
    series: int
    tar: str
    syntax: str
    head: int
    end: int


@dataclass(frozen=True)
class Packed:
    """What became of one file. refused: why it was left out; damaged: whether that is because it is damaged.

    attributes: of study and series, for the first file of a series only. name: of the patient, as the file had it;
    whoever reads this seals it.
    """

    refused: str | None = None
    damaged: bool = False
    offset: int = 0
    size: int = 0
    header_bytes: int = 0
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    transfer_syntax: str = ""
    study_date: str = ""
    name: str = ""
    attributes: dict[str, Any] | None = None


def main(order: dict[str, Any]) -> None:
    """Packs every image of the order, and says what became of each."""
    images = [Image(**image) for image in json.loads(Path(order["images"]).read_text())]
    deidentifier = Deidentifier(bytes.fromhex(order["secret"]), UUID(order["tenant"]))
    packer = _Packer(deidentifier, order["patient"], order["keep"])
    with Path(order["results"]).open("w") as results:
        for packed in packer.pack(images):
            results.write(json.dumps(asdict(packed)) + "\n")


class _Packer:
    """Cleans and packs, one tar after another."""

    def __init__(self, deidentifier: Deidentifier, patient: str, keep: bool) -> None:
        self._deidentifier = deidentifier
        self._patient = patient
        self._keep = keep
        self._told: set[int] = set()

    def pack(self, images: Sequence[Image]) -> Iterator[Packed]:
        """Each of the images, which are in order of their series."""
        with ExitStack() as stack:
            current, writer, count = -1, None, 0
            tar: BinaryIO | None = None
            for image in images:
                if image.series != current:
                    if writer is not None and tar is not None:
                        writer.finish()
                        tar.close()
                    tar = stack.enter_context(Path(image.tar).open("xb"))
                    writer, current, count = TarWriter(tar), image.series, 0
                assert writer is not None and tar is not None, "opened for the first image"
                count += 1
                yield self._packed(image, writer, tar, f"{count:06d}.dcm")
            if writer is not None:
                writer.finish()

    def _packed(self, image: Image, writer: TarWriter, tar: BinaryIO, name: str) -> Packed:
        try:
            with writer.member(name) as placed, Path(image.path).open("rb") as source:
                cleaned, header_bytes = self._write(image, source, tar, placed.offset)
        except (UnsupportedImage, Invalid) as error:
            return Packed(refused=error.detail, damaged=isinstance(error, Invalid))
        return self._described(image, cleaned, placed.offset, placed.size, header_bytes)

    def _write(
        self, image: Image, source: BinaryIO, tar: BinaryIO, offset: int
    ) -> tuple[tuple[Cleaned, Dataset], int]:
        """The cleaned header, and the one to describe the file by; how many bytes come before the pixels."""
        streamed = image.syntax != DEFLATED and image.head > 0
        if self._keep:
            with Path(os.devnull).open("wb") as nowhere:
                cleaned = self._deidentifier.clean_file(source, nowhere, self._patient, pixels=False)
            source.seek(0)
            original = dcmread(source, stop_before_pixels=True)
            _copy(source, tar, 0, os.fstat(source.fileno()).st_size)
            return (cleaned, original), image.head if streamed else tar.tell() - offset
        cleaned = self._deidentifier.clean_file(source, tar, self._patient, pixels=not streamed)
        header_bytes = tar.tell() - offset
        if streamed:
            _copy(source, tar, image.head, image.end)
        return (cleaned, cleaned.dataset), header_bytes

    def _described(
        self, image: Image, written: tuple[Cleaned, Dataset], offset: int, size: int, header_bytes: int
    ) -> Packed:
        cleaned, stored = written
        first = image.series not in self._told
        self._told.add(image.series)
        meta = cleaned.dataset.file_meta if stored is cleaned.dataset else stored.file_meta
        return Packed(
            offset=offset,
            size=size,
            header_bytes=header_bytes,
            sop_class=_text(cleaned.dataset, "SOPClassUID"),
            sop_uid=_text(stored, "SOPInstanceUID"),
            study_uid=_text(stored, "StudyInstanceUID"),
            series_uid=_text(stored, "SeriesInstanceUID"),
            transfer_syntax=str(meta.get("TransferSyntaxUID") or image.syntax),
            study_date=_text(stored, "StudyDate"),
            name=cleaned.identity.name,
            attributes=self._attributes(cleaned, stored) if first else None,
        )

    @staticmethod
    def _attributes(cleaned: Cleaned, stored: Dataset) -> dict[str, Any]:
        """Of an image that stays as it is, texts are told as if it were cleaned: the database holds no names in clear."""
        found = _storable(describe(cleaned.dataset))
        if stored is not cleaned.dataset:
            own = _storable(describe(stored))
            found |= {tag: own[tag] for tag in own if own[tag]["vr"] in ("UI", "DA", "TM")}
            found.pop("00100030", None)  # the birth date
        return found


def _storable(attributes: dict[str, Any]) -> dict[str, Any]:
    """Those that PostgreSQL's jsonb holds, and that are no longer than such values are."""
    texts = {tag: json.dumps(value) for tag, value in attributes.items()}
    unfit = (
        "\\u0000",
        "\\ud8",
        "\\ud9",
        "\\uda",
        "\\udb",
        "\\udc",
        "\\udd",
        "\\ude",
        "\\udf",
        "NaN",
        "Infinity",
    )
    return {
        tag: attributes[tag]
        for tag, text in texts.items()
        if len(text) <= MOST_CHARACTERS and not any(mark in text for mark in unfit)
    }


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "")
    except READ_ERRORS:
        return ""


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end and (block := source.read(min(BLOCK, end - start))):
        target.write(block)
        start += len(block)


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))
