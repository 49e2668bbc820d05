"""DICOM images without their patients, packed beside everything else that is done: in a process of its own."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import shared
from functions.ingest.faults import UnusableFiles
from functions.ingest.made import Job, Notes, PackedImage, PackedSeries, Patient
from shared.imaging.dicom.deid_job import Image, Packed
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from shared.imaging.dicom.instance import DEFLATED, Instance
from shared.imaging.dicom.processes import BoundedProcess

MEMORY = 2048 * 2**20
"""Address space; most of it is that of libraries. Pixels are copied in blocks, deflated files held whole."""
SECONDS = 1800


class Packing:
    """One run of `shared.imaging.dicom.deid_start`: it loads its libraries while its caller still unpacks."""

    def __init__(self, job: Job, secret: bytes) -> None:
        self._job = job
        self._folder = job.work("dicom")
        self._images: list[Instance] = []
        self._order = {
            "secret": secret.hex(),
            "tenant": str(job.tenant_id),
            "keep": not job.settings.deidentify,
            "images": str(self._folder / "images.json"),
            "results": str(self._folder / "results.jsonl"),
        }
        self._process = BoundedProcess(
            [sys.executable, "-m", "shared.imaging.dicom.deid_start"],
            folder=self._folder,
            memory=MEMORY,
            disk=2 * max(job.settings.max_archive_bytes, job.settings.max_slide_bytes),
            seconds=SECONDS,
            path=str(Path(shared.__file__).parents[1]),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def begin(self, images: Sequence[Instance], patient: str) -> None:
        """Pack these, series by series. patient: the pseudonym that they get."""
        self._images = sorted(images, key=lambda image: (image.series_uid, image.instance_number or 0))
        numbers: dict[str, int] = {}
        for image in self._images:
            numbers.setdefault(image.series_uid, len(numbers))
        listed = [self._listed(image, numbers[image.series_uid]) for image in self._images]
        Path(str(self._order["images"])).write_text(json.dumps([asdict(one) for one in listed]))
        self._process.give(json.dumps({**self._order, "patient": patient}))

    def _listed(self, image: Instance, number: int) -> Image:
        pixels = image.pixels
        whole = pixels is None or image.transfer_syntax == DEFLATED
        head, end = (0, 0) if whole or pixels is None else (pixels.head, pixels.end)
        tar = str(self._folder / f"{number:06d}.tar")
        return Image(str(image.path), number, tar, image.transfer_syntax, head, end)

    def packed(self, notes: Notes) -> list[PackedImage]:
        """All that could be packed; what could not is noted. Raises UnusableFiles where the images are damaged."""
        if not self._images:
            return []
        self._process.result()
        lines = Path(str(self._order["results"])).read_text().splitlines()
        found = []
        for image, line in zip(self._images, lines, strict=True):
            packed = Packed(**json.loads(line))
            if packed.damaged:
                raise UnusableFiles(f"a DICOM image is damaged: {packed.refused}")
            if packed.refused:
                notes.left_out[packed.refused] += 1
            else:
                found.append(PackedImage(image, packed))
        return found

    def tar_of(self, image: PackedImage) -> Path:
        """Where the tar of the image's series is."""
        number = sorted({one.series_uid for one in self._images}).index(image.instance.series_uid)
        return self._folder / f"{number:06d}.tar"


def series_of(packing: Packing, images: Sequence[PackedImage]) -> tuple[PackedSeries, ...]:
    """The images by series."""
    groups: dict[str, list[PackedImage]] = {}
    for image in images:
        groups.setdefault(image.instance.series_uid, []).append(image)
    made = []
    for group in groups.values():
        attributes = next((one.packed.attributes for one in group if one.packed.attributes), {})
        made.append(PackedSeries(packing.tar_of(group[0]), tuple(group), attributes))
    return tuple(made)


def pseudonym_of(images: Sequence[Instance], pseudonyms: Pseudonyms) -> str | None:
    """What stands for the patient of these images; None where they do not name one.

    Raises UnusableFiles where they are of several.
    """
    people: dict[str, str] = {}
    for image in images:
        if patient_id := image.patient_id.strip():
            issuer = image.issuer.strip()
            if people.setdefault(patient_id, issuer) not in (issuer, "") and issuer:
                people[f"{issuer}\\{patient_id}"] = issuer
            people[patient_id] = people[patient_id] or issuer
    if len(people) > 1:
        raise UnusableFiles(
            f"the images are of {len(people)} patients by their Patient IDs; send each patient's study by itself"
        )
    for patient_id, issuer in people.items():
        if pseudonyms.made(images[0].sop_uid):  # we cleaned them before: their Patient ID is the pseudonym
            return patient_id
        return pseudonyms.patient(patient_id, issuer)
    return None


def patient_of(images: Sequence[PackedImage], pseudonym: str) -> Patient | None:
    """The patient of these images; None where there are none. Raises UnusableFiles for several, by their names."""
    if not images:
        return None
    names = {one.packed.name.strip() for one in images if not one.instance.patient_id.strip()} - {""}
    if len(names) > 1:
        raise UnusableFiles(
            f"the images are of {len(names)} patients by their names; send each patient's study by itself"
        )
    name = next((spoken for one in images if (spoken := spoken_name(one.packed.name))), "")
    days = sorted(filter(None, (_day(one.packed.study_date) for one in images)))
    return Patient(pseudonym, name, days[0] if days else None)


def spoken_name(name: str) -> str:
    """A DICOM name (`Family^Given^Middle^Prefix^Suffix`, other scripts after `=`) in the order in which it is said."""
    alphabetic = name.split("=")[0] or name.strip("=").split("=")[0]
    family, given, middle, prefix, suffix = (part.strip() for part in (alphabetic.split("^") + [""] * 5)[:5])
    return " ".join(part for part in (prefix, given, middle, family, suffix) if part)


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
