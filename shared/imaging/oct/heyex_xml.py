"""HEYEX XML exports: one index of the B-scans' pictures, which come with it.

Only sizes, places, scale, eye and the pictures' names are read; names of people are never looked at.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse
from numpy.typing import NDArray

from shared.errors import Invalid, UnsupportedImage
from shared.imaging.nifti_header import ImplausibleImage, TruncatedImage
from shared.imaging.oct.volume import (
    MAX_BYTES,
    MAX_SCANS,
    Laterality,
    OctVolume,
    check_size,
    validated_spacing,
)
from shared.imaging.raster import read_raster

MAX_XML_BYTES = 32 * 2**20
MAX_DEPTH = 64
MAX_ELEMENTS = 500_000
LONGEST_GAP = 512 * 2**10
UNEVEN = 0.1
"""Largest deviation of one gap between B-scans from their mean, as a part of it."""
_EYES: Final[dict[str, Laterality]] = {"R": "R", "L": "L"}
_CONTEXT = "OphthalmicAcquisitionContext"


@dataclass(frozen=True)
class _Picture:
    """One image of the index. place: (x, y) mm of its first and last column, None where not given."""

    kind: str
    name: str
    eye: Laterality | None
    scale: tuple[float, float] | None
    place: tuple[float, float, float, float] | None


def read_heyex_xml(path: Path, pictures: Mapping[str, Path], max_bytes: int = MAX_BYTES) -> OctVolume:
    """The scan that the XML file at `path` indexes.

    pictures: the files that came with it, by their names in lower case, without folders. Raises UnsupportedImage,
    Invalid or TooLarge.
    """
    index = _index(path)
    scans = [picture for picture in index if picture.kind == "OCT"]
    if not scans:
        raise UnsupportedImage("The HEYEX XML lists no OCT B-scans.")
    bscans = _stacked(scans, pictures, max_bytes)
    localizer = next((picture for picture in index if picture.kind == "LOCALIZER"), None)
    fundus = None
    if localizer is not None and localizer.name in pictures:
        fundus = _grey8(read_raster(pictures[localizer.name]).grey)
    eyes = {picture.eye for picture in scans}
    scales = {picture.scale for picture in scans}
    lateral, axial = (scales.pop() if len(scales) == 1 else None) or (None, None)
    between, uneven = _between(scans)
    spacing, note = validated_spacing(axial, lateral, between, len(scans))
    return OctVolume(
        bscans, spacing, note or uneven, eyes.pop() if len(eyes) == 1 else None, "Heidelberg", fundus
    )


def _stacked(scans: list[_Picture], pictures: Mapping[str, Path], max_bytes: int) -> NDArray[np.generic]:
    missing = sum(scan.name not in pictures for scan in scans)
    if missing:
        raise Invalid(
            f"{missing:,} of the {len(scans):,} pictures that the HEYEX XML lists did not come with it."
        )
    bscans: NDArray[np.generic] | None = None
    for number, scan in enumerate(scans):
        pixels = _grey8(read_raster(pictures[scan.name]).grey)
        if bscans is None:
            height, width = pixels.shape
            check_size(len(scans), height, width, 1, max_bytes)
            bscans = np.empty((len(scans), *pixels.shape), dtype=np.uint8)
        if pixels.shape != bscans.shape[1:]:
            raise ImplausibleImage("The pictures of the B-scans differ in size.")
        bscans[number] = pixels
    assert bscans is not None, "the caller saw one scan or more"
    return bscans


def _grey8(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16) >> 8, dtype=np.uint8)


def _index(path: Path) -> list[_Picture]:
    if path.stat().st_size > MAX_XML_BYTES:
        raise ImplausibleImage(f"The HEYEX XML is over {MAX_XML_BYTES // 2**20} MiB; exports are smaller.")
    try:
        with path.open("rb") as file:
            return list(_images(file))
    except DefusedXmlException as error:
        raise Invalid("The XML declares a document type or entities, which HEYEX never does.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise TruncatedImage("The HEYEX XML is damaged or cut short and cannot be read.") from error


def _images(file: IO[bytes]) -> Iterator[_Picture]:
    """Each image of the index, letting go of elements as they end."""
    depth = elements = images = 0
    paced = _Paced(file)
    for event, element in iterparse(paced, events=("start", "end"), forbid_dtd=True):
        paced.quiet = 0
        depth += 1 if event == "start" else -1
        elements += event == "start"
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS or images > 2 * MAX_SCANS:
            raise ImplausibleImage(
                f"The HEYEX XML is over {MAX_DEPTH} levels deep, or has over {MAX_ELEMENTS:,} elements or "
                f"{2 * MAX_SCANS:,} images."
            )
        if event == "end" and element.tag == "Image":
            images += 1
            yield _picture(element)
        if event == "end" and element.tag in ("Image", "Segmentation", "ThicknessGrid"):
            element.clear()


class _Paced:
    """A file of which the parser reads only so much between two tags: one tag of a million attributes costs minutes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.quiet = file, 0

    def read(self, count: int = -1, /) -> bytes:
        """As of a file."""
        self.quiet += count
        if self.quiet > LONGEST_GAP:
            raise ImplausibleImage(
                f"The HEYEX XML goes on for over {LONGEST_GAP // 2**10} KiB without a tag's end."
            )
        return self.file.read(count)


def _picture(image: Element) -> _Picture:
    url = image.findtext("ImageData/ExamURL") or ""
    scale = _numbers(image, "ScaleX", "ScaleY")
    place = _numbers(image, "Start/Coord/X", "Start/Coord/Y", "End/Coord/X", "End/Coord/Y")
    return _Picture(
        (image.findtext("ImageType/Type") or "").strip(),
        re.split(r"[\\/]", url.strip())[-1].lower(),
        _EYES.get((image.findtext("Laterality") or "").strip()),
        None if scale is None else (scale[0], scale[1]),
        None if place is None else (place[0], place[1], place[2], place[3]),
    )


def _numbers(image: Element, *names: str) -> list[float] | None:
    """The numbers of an image's context; None unless all are there and finite."""
    values = []
    for name in names:
        try:
            values.append(float(image.findtext(f"{_CONTEXT}/{name}") or ""))
        except ValueError:
            return None
    return values if all(map(math.isfinite, values)) else None


def _between(scans: list[_Picture]) -> tuple[float | None, str]:
    """The mean distance of neighbouring B-scans in mm, or None and why: they must be parallel and evenly apart."""
    places = np.array([scan.place for scan in scans if scan.place is not None], dtype=np.float64)
    if len(places) != len(scans) or len(scans) < 2:
        return None, "" if len(scans) < 2 else "The HEYEX XML does not place every B-scan."
    steps = np.diff(places, axis=0).reshape(-1, 2, 2)
    gaps = np.linalg.norm(steps, axis=2)
    mean = float(gaps.mean())
    if not mean > 0 or (np.abs(gaps - mean) > UNEVEN * mean).any():
        return (
            None,
            "The B-scans are not parallel or not evenly apart; distances across them are not measured.",
        )
    return mean, ""
