"""Of which kind a study is: as declared, where the bytes do not say otherwise, else as the bytes say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from functions.ingest.dicom_files import DicomFiles
from functions.ingest.faults import Held, UnusableFiles
from functions.ingest.made import Notes, Source
from functions.ingest.received import is_dicom
from shared.events.types import Kind
from shared.formats.types import Format

NAMES: dict[Kind, str] = {
    "ct": "a CT study",
    "brain-mri": "a brain MRI",
    "oct": "an OCT scan",
    "slide": "a whole-slide image",
}
VOLUMES = frozenset({Format.NIFTI, Format.NRRD, Format.MHA})
PICTURES = frozenset({Format.PNG, Format.JPEG, Format.TIFF, Format.OME_TIFF})
HOLD_CODES = {
    "burned-in": "text may be part of the picture",
    "embedded-overlay": "an overlay, which may be text, lies in the pixels",
    "slide-label": "it shows a slide's label",
}
KindSource = Literal["declared", "format", "modality", "content"]


@dataclass(frozen=True)
class Decision:
    """The kind, what told it, and the files that are of it. undecided: volumes, of which only voxels can tell."""

    kind: Kind | None
    source: KindSource
    sources: list[Source]


def decide(declared: Kind | None, sources: Sequence[Source], dicom: DicomFiles, notes: Notes) -> Decision:
    """The kind of a study; None where only the voxels of its volumes can tell CT from MRI.

    Raises UnusableFiles where the files are of another kind than declared, or of none; Held where all images that
    there are of the kind have to be looked at by a person first.
    """
    if declared is not None:
        return _as_declared(declared, sources, dicom, notes)
    for kind, source in _candidates(sources, dicom):
        fitting = _fitting(kind, sources, dicom)
        _pass_over(sources, fitting, notes)
        return Decision(kind, source, fitting)
    volumes = [source for source in sources if source.found.format in VOLUMES]
    if volumes:
        _pass_over(sources, volumes, notes)
        return Decision(None, "content", volumes)
    pictures = [source for source in sources if source.found.format in PICTURES]
    if pictures:
        _pass_over(sources, pictures, notes)
        notes.warnings.append("a picture does not say what it shows: it was taken for a B-scan of OCT")
        return Decision("oct", "format", pictures)
    raise _nothing_usable(sources, dicom, notes)


def _as_declared(declared: Kind, sources: Sequence[Source], dicom: DicomFiles, notes: Notes) -> Decision:
    fitting = _fitting(declared, sources, dicom)
    fits_loosely = declared in dicom.kinds
    if not fitting and not fits_loosely and declared in dicom.held_kinds:
        raise _held(dicom)
    strangers = [s for s in sources if not s.packed and s not in fitting and not is_dicom(s)]
    if not fitting or strangers:
        other = _described(strangers or sources, dicom)
        raise UnusableFiles(
            f"the study was sent as {NAMES[declared]}, but holds {other}; send each by itself"
        )
    _pass_over(sources, fitting, notes)
    return Decision(declared, "declared", fitting)


def _candidates(sources: Sequence[Source], dicom: DicomFiles) -> list[tuple[Kind, KindSource]]:
    """Kinds that formats or DICOM modalities tell, the likeliest first: that of most planes."""
    planes = sorted(dicom.kinds.items(), key=lambda pair: -pair[1])
    found: list[tuple[Kind, KindSource]] = [(kind, "modality") for kind, _ in planes]
    others: tuple[Kind, ...] = ("slide", "oct")
    by_format = {source.found.kind for source in sources if not is_dicom(source)}
    found += [(kind, "format") for kind in others if kind in by_format]
    return found


def _fitting(kind: Kind, sources: Sequence[Source], dicom: DicomFiles) -> list[Source]:
    """The files that can be part of a study of this kind; DICOM files where some of their images are."""
    has_images = kind in dicom.kinds
    return [source for source in sources if _fits(kind, source, has_images)]


def _fits(kind: Kind, source: Source, has_images: bool) -> bool:
    if is_dicom(source):
        return has_images
    if source.found.kind is not None:
        return source.found.kind == kind
    if source.found.format in VOLUMES:
        return kind in ("ct", "brain-mri")
    return kind == "oct" and source.found.format in PICTURES


def _pass_over(sources: Sequence[Source], used: Sequence[Source], notes: Notes) -> None:
    chosen = {id(source) for source in used}
    for source in sources:
        if id(source) not in chosen and not is_dicom(source):
            notes.passed_over[f"{source.found.format}, of another kind"] += 1


def _nothing_usable(sources: Sequence[Source], dicom: DicomFiles, notes: Notes) -> UnusableFiles | Held:
    if dicom.held_kinds:
        return _held(dicom)
    for source in sources:
        if source.found.needs and len(sources) == 1:
            return UnusableFiles(f"{source.label}: {source.found.needs}")
    if notes.left_out and not dicom.modalities:
        why = "; ".join(f"{count} × {reason}" for reason, count in sorted(notes.left_out.items()))
        return UnusableFiles(f"none of the DICOM files is an image that can be used: {why}")
    return UnusableFiles(
        f"the study holds {_described(sources, dicom)}; CT, MR, OPT and SM images of DICOM are taken, NIfTI, NRRD, "
        "MHA, OCT, pictures of B-scans and whole-slide images"
    )


def _held(dicom: DicomFiles) -> Held:
    codes = sorted({str(hold) for image in dicom.held for hold in image.holds})
    why = "; ".join(HOLD_CODES[code] for code in codes)
    return Held(codes, f"all {len(dicom.held)} images wait for a person to look at them: {why}")


def _described(sources: Sequence[Source], dicom: DicomFiles) -> str:
    """What there is, in words of ours."""
    images = [s for s in sources if is_dicom(s)]
    parts = []
    if images and dicom.modalities:
        parts.append(f"DICOM images of modality {', '.join(dicom.modalities)}")
    elif images:
        parts.append("DICOM files without images")
    kinds = sorted({source.found.kind for source in sources if source.found.kind and not is_dicom(source)})
    parts += [NAMES[kind] for kind in kinds]
    others = {str(s.found.format) for s in sources if s.found.kind is None and not is_dicom(s)}
    parts += [f"files of the format {name}" for name in sorted(others)]
    return " and ".join(parts) or "nothing that is read here"
