"""A slide without label, macro and overview images and without texts that identify: what is kept of a slide.

How others do it, and what differs here: anonymize-slide (https://github.com/bgilbert/anonymize-slide) takes the
label's directory out of the chain and overwrites its strips; NCI's WSI DeID
(https://github.com/DigitalSlideArchive/DSA-WSI-DeID) writes the file anew without listed fields. Both drop what is
known to identify; here only what is known to be harmless stays (`keep`, `texts`), and what is left is opened with
OpenSlide and compared with the source before anyone gets it.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from openslide import OpenSlide

from shared.errors import UnsupportedImage
from shared.formats.source import FileSource
from shared.formats.tiff import is_tiff
from shared.imaging.slide.compare import check_cleaned, scale_of
from shared.imaging.slide.directories import NotInPlace, Tiff
from shared.imaging.slide.keep import write_kept
from shared.imaging.slide.reading import open_slide
from shared.imaging.slide.reencode import write_plain
from shared.imaging.slide.vendors import pages_to_keep


@dataclass(frozen=True)
class CleanedSlide:
    """What became of a slide.

    format: OpenSlide's name of the vendor it came from. removed: OpenSlide's names of the images that were left out,
    such as `label`. reencoded: whether the pixels were compressed anew, as a generic tiled TIFF, since the vendor's
    files cannot be cleaned with certainty; then the objective's power is lost.
    """

    format: str
    removed: tuple[str, ...]
    reencoded: bool


def clean_slide(source: Path, target: Path) -> CleanedSlide:
    """Write to `target`, which must not be there, the slide `source` with its levels and scale alone.

    A DICOM slide is a folder, and so is its target; of a slide of several files `source` is the one that OpenSlide
    opens. Takes a few MB of memory beside the table of tiles, whatever the size. Raises BrokenSlide, Invalid,
    TooLarge or UnsupportedImage, and then leaves no target.
    """
    if source.is_dir():
        from shared.imaging.slide.dicom import (
            clean_dicom,  # here: who only looks at slides needs no DICOM decoders
        )

        with _whole_or_none(target):
            return CleanedSlide("dicom", clean_dicom(source, target), False)
    with open_slide(source) as slide, _whole_or_none(target):
        vendor = slide.properties.get("openslide.vendor", "unknown")
        if vendor == "dicom":
            raise UnsupportedImage("A DICOM slide is cleaned as the folder of its files.")
        return CleanedSlide(
            vendor, tuple(sorted(slide.associated_images)), _write(source, slide, vendor, target)
        )


def _write(source: Path, slide: OpenSlide, vendor: str, target: Path) -> bool:
    """Returns whether the pixels were compressed anew."""
    with source.open("rb") as file, target.open("xb") as cleaned:
        original = FileSource(file, source)
        reencoded = not (is_tiff(original.read(0, 4)) and _keep(original, vendor, cleaned))
        if reencoded:
            cleaned.seek(0)
            cleaned.truncate()
            write_plain(slide, scale_of(slide), cleaned)
    with open_slide(target) as result:
        check_cleaned(slide, result, reencoded)
    return reencoded


def _keep(original: FileSource, vendor: str, cleaned: IO[bytes]) -> bool:
    try:
        tiff = Tiff(original)
        write_kept(tiff, pages_to_keep(tiff, vendor), cleaned)
    except NotInPlace:
        return False
    return True


@contextmanager
def _whole_or_none(target: Path) -> Iterator[None]:
    """Leaves no target that is not finished and checked."""
    if target.exists():
        raise FileExistsError(target)
    with ExitStack() as stack:
        stack.callback(_remove, target)
        yield
        stack.pop_all()


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
