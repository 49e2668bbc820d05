"""Slides: one whole-slide image, freed of its label and of texts; a DICOM slide is several files."""

import os
from pathlib import Path
from typing import Any

from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.made import Job, MadeFile, PackedSeries, Source
from functions.ingest.received import Contents
from functions.ingest.volumes import only
from shared.db.models import FileRole
from shared.formats.identify import as_slide, may_be_slide
from shared.formats.types import Format
from shared.imaging.dicom.instance import Instance
from shared.imaging.jobs import run_job

SUFFIXES = {Format.ZEISS_CZI: ".czi", Format.SAKURA: ".svslide"}
INDEXES = {Format.MIRAX_INDEX: "mirax", Format.HAMAMATSU_INDEX: "hamamatsu"}
READABLE = frozenset(f"1.2.840.10008.1.2{end}" for end in (".1", "", ".4.50", ".4.90", ".4.91"))
"""Transfer syntaxes of DICOM slides that OpenSlide 4 reads."""
SECONDS = 600
BYTES_PER_SECOND = 5 * 2**20
"""What a slow disk copies; a re-encoded slide takes longer, and its size grows with it."""
VOLUME = "VOLUME"


def told_slides(job: Job, sources: list[Source]) -> list[Source]:
    """The sources, with those told that are slides: OpenSlide is asked, in a process of its own."""
    asked = [source for source in sources if may_be_slide(source.found)]
    if not asked or any(source.found.format is Format.HEYEX_XML for source in sources):
        return sources
    with fault_of(asked[0].label if len(asked) == 1 else None):
        order = {"action": "vendors", "paths": [str(source.path) for source in asked]}
        vendors = run_job("slide", order, job.folder, seconds=SECONDS, disk=2**20)
    told = {}
    for source, vendor in zip(asked, vendors, strict=True):
        with fault_of(source.label):
            found = as_slide(source.found, vendor)
        told[id(source)] = Source(source.path, found, source.label, source.name, source.file, source.packed)
    return [told.get(id(source), source) for source in sources]


def make_slide(job: Job, sources: list[Source], contents: Contents) -> list[MadeFile]:
    """The study's slide, of files that are no DICOM. Raises UnusableFiles."""
    source = only(_openable(sources), "whole-slide images")
    path = source.path
    if source.found.format in INDEXES:
        path = _restored(job, source, contents)
    job.progress("reading the slide", 5)
    with fault_of(source.label):
        described = _run(job, {"action": "describe", "source": str(path)}, path)
        keep = not job.settings.deidentify and source.found.format not in INDEXES
        cleaned = None if keep else _cleaned(job, path)
    kept = path if cleaned is None else job.folder / "slide"
    suffix = ".tif" if cleaned and cleaned["reencoded"] else _suffix(source)
    details = _details(described) | {
        "removed": list(cleaned["removed"]) if cleaned else [],
        "reencoded": bool(cleaned and cleaned["reencoded"]),
    }
    media_type = "image/tiff" if suffix == ".tif" else source.found.media_type
    key = f"slide/slide{suffix}"
    return [MadeFile(FileRole.SLIDE, key, kept, media_type, source.name, details)]


def make_dicom_slide(job: Job, series: tuple[PackedSeries, ...]) -> list[MadeFile]:
    """The study's slide, of DICOM files that were cleaned. Several of them, levels of one slide, become one TIFF: a slide
    is one object. The files themselves are kept in their series' tar."""
    slides = [one for one in series if one.images[0].instance.modality == "SM"]
    if len(slides) != 1:
        raise UnusableFiles(
            f"the study holds {len(slides)} series of slide images; send each slide as a study of its own"
        )
    folder = job.work("dicom-slide")
    job.progress("reading the slide", 5)
    volumes = [one for one in slides[0].images if VOLUME in one.instance.image_type[2:3]]
    if not volumes:
        raise UnusableFiles("the DICOM files hold no image of the slide itself (VOLUME)")
    for one in volumes:
        _check_readable(one.instance)
    volumes.sort(key=lambda one: -(one.instance.pixels.end if one.instance.pixels else 0))
    paths = []
    for number, one in enumerate(volumes, 1):
        path = folder / f"{number:06d}.dcm"
        _extract(slides[0].tar, one.packed.offset, one.packed.size, path)
        paths.append(path)
    with fault_of():
        described = _run(job, {"action": "describe", "source": str(paths[0])}, folder)
        kept, suffix, media_type = paths[0], ".dcm", "application/dicom"
        if len(paths) > 1:
            kept, suffix, media_type = job.folder / "slide", ".tif", "image/tiff"
            job.progress("joining the slide's levels", 7)
            _run(job, {"action": "join", "source": str(paths[0]), "target": str(kept)}, folder)
    details = _details(described) | {"removed": [], "reencoded": len(paths) > 1, "dicom_files": len(paths)}
    key = f"slide/slide{suffix}"
    return [MadeFile(FileRole.SLIDE, key, kept, media_type, f"slide{suffix}", details)]


def _check_readable(image: Instance) -> None:
    """Raises UnusableFiles for what OpenSlide has no decoder for, which it calls damaged."""
    if image.pixels is not None and image.pixels.samples != 3:
        raise UnusableFiles("the slide's images are grey; DICOM slides are read in colour")
    if image.transfer_syntax not in READABLE:
        raise UnusableFiles(
            f"the slide's images are compressed by transfer syntax {image.transfer_syntax}; JPEG, JPEG 2000 and "
            "uncompressed ones are read"
        )


def _openable(sources: list[Source]) -> list[Source]:
    """What OpenSlide opens; a MIRAX or .vms slide is opened by its index, whose pictures are no slides themselves."""
    indexes = [source for source in sources if source.found.format in INDEXES]
    return indexes or [source for source in sources if source.found.kind == "slide"]


def _restored(job: Job, index: Source, contents: Contents) -> Path:
    """A slide of several files under their names, which were checked when the archive was unpacked."""
    if not index.packed:
        raise UnusableFiles(f"{index.label}: {index.found.needs}")
    folder = job.work("slide-files")
    for name, path in contents.members.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    placed = folder / index.name
    if index.found.format is Format.HAMAMATSU_INDEX:
        return placed
    slide = placed.parent.with_suffix(".mrxs")
    found = next((p for p in placed.parent.parent.iterdir() if p.name.lower() == slide.name.lower()), None)
    if found is None:
        raise UnusableFiles(f"{index.label}: {index.found.needs}")
    return found


def _cleaned(job: Job, path: Path) -> dict[str, Any]:
    job.progress("removing the label", 7)
    order = {"action": "clean", "source": str(path), "target": str(job.folder / "slide")}
    cleaned: dict[str, Any] = _run(job, order, path)
    return cleaned


def _run(job: Job, order: dict[str, str], path: Path) -> Any:
    files = [path] if path.is_file() else list(path.iterdir())
    size = sum(file.stat().st_size for file in files)
    seconds = SECONDS + size // BYTES_PER_SECOND
    return run_job("slide", order, job.folder, seconds=seconds, disk=2 * job.settings.max_slide_bytes)


def _details(described: dict[str, Any]) -> dict[str, Any]:
    return {
        "vendor": described["vendor"],
        "width": described["width"],
        "height": described["height"],
        "levels": described["levels"],
        "mpp": described["mpp"],
        "mpp_note": described["mpp_note"] or None,
        "objective": described["objective"],
    }


def _suffix(source: Source) -> str:
    return SUFFIXES.get(source.found.format, ".tif")


def _extract(tar: Path, offset: int, size: int, target: Path) -> None:
    with tar.open("rb") as source, target.open("xb") as file:
        source.seek(offset)
        while size and (block := source.read(min(2**20, size))):
            file.write(block)
            size -= len(block)
