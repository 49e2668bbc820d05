"""The DICOM files of a study: read, and sorted into what is used, what a person must look at, and what is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from functions.ingest.faults import UnusableFiles
from functions.ingest.made import Notes, Source
from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.events.types import Kind
from shared.formats.types import Format
from shared.imaging.dicom.dicomdir import read_dicomdir
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance

KINDS: Mapping[str, Kind] = {"CT": "ct", "MR": "brain-mri", "OPT": "oct", "OP": "oct", "SM": "slide"}
"""Which kind of study images of a modality make."""


@dataclass
class DicomFiles:
    """Images by what may be done with them.

    images: may be used, of whatever modality; copies among them. held: a person has to look at them first.
    """

    images: list[Instance] = field(default_factory=list)
    held: list[Instance] = field(default_factory=list)

    @property
    def unique(self) -> list[Instance]:
        """Each of the images once; of copies the first. Whether they say the same is for their series to find."""
        return list({image.sop_uid: image for image in reversed(self.images)}.values())[::-1]

    @property
    def kinds(self) -> dict[Kind, int]:
        """How many planes there are for each kind of study."""
        return _count(self.images)

    @property
    def held_kinds(self) -> dict[Kind, int]:
        """The same of the images that are held."""
        return _count(self.held)

    @property
    def modalities(self) -> list[str]:
        """Of all images, in order."""
        found = {image.modality for image in (*self.images, *self.held)}
        return sorted(name for name in found if name.isalpha())


class Headers:
    """Headers that are read as the files come out of an archive, while the next are still decompressed."""

    def __init__(self) -> None:
        self._read: dict[Path, Instance] = {}
        self._damaged = False

    def note(self, path: Path) -> None:
        """Read the header of a file, if it has one. Once one is damaged, which `of` will say, no more are read."""
        if self._damaged:
            return
        try:
            self._read[path] = read_header(path)
        except UnsupportedImage:
            return
        except (Invalid, TooLarge):
            self._damaged = True

    def of(self, path: Path) -> Instance:
        """The header of a file. Errors as `read_header`."""
        return self._read.get(path) or read_header(path)


def read_dicom(sources: Sequence[Source], headers: Headers, notes: Notes, *, released: bool) -> DicomFiles:
    """Reads the header of every DICOM file. Raises UnusableFiles where one is damaged.

    released: whether a person has looked, so that nothing is held.
    """
    found = DicomFiles()
    seen: set[str] = set()
    for source in sources:
        if source.found.format is Format.DICOMDIR:
            continue
        image = _header(source, headers, notes)
        if image is None:
            continue
        if image.sop_uid in seen:
            notes.left_out["came twice"] += 1
        if image.holds and not released:
            found.held.append(image)
            notes.held.update(map(str, image.holds))
        else:
            found.images.append(image)
        seen.add(image.sop_uid)
    _check_directories(sources, seen, notes)
    return found


def _header(source: Source, headers: Headers, notes: Notes) -> Instance | None:
    """The header of an image; None, and a note, for what is none."""
    try:
        header = headers.of(source.path)
    except UnsupportedImage as error:
        notes.left_out[error.title.lower()] += 1
        return None
    except (Invalid, TooLarge) as error:
        raise UnusableFiles(f"{source.label}: {error.detail}") from error
    if header.document is not None:
        notes.left_out[f"is {header.document}"] += 1
    elif header.pixels is None:
        notes.left_out["has no image"] += 1
    elif not (header.sop_uid and header.series_uid and header.study_uid):
        notes.left_out["does not say which study, series and image it is"] += 1
    else:
        return header
    return None


def _check_directories(sources: Sequence[Source], seen: set[str], notes: Notes) -> None:
    """A DICOMDIR says what should have come."""
    for source in sources:
        if source.found.format is not Format.DICOMDIR:
            continue
        notes.passed_over["DICOMDIR"] += 1
        try:
            missing = read_dicomdir(source.path).missing(frozenset(seen))
        except (UnsupportedImage, Invalid, TooLarge):
            continue  # only a hint, and a damaged one says nothing
        if missing:
            notes.warnings.append(
                f"the DICOMDIR lists {missing} objects that did not come, or are no images; send the whole medium if "
                "something is missing"
            )


def _count(images: Sequence[Instance]) -> dict[Kind, int]:
    counts: dict[Kind, int] = {}
    for image in images:
        if kind := KINDS.get(image.modality):
            counts[kind] = counts.get(kind, 0) + (image.pixels.frames if image.pixels else 0)
    return counts
