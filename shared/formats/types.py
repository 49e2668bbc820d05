"""The formats that this platform knows, and what is said of a file that has one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

Kind = Literal["ct", "brain-mri", "oct", "slide"]
Detail = str | int | bool

ACCEPTED = (
    "send DICOM, NIfTI (.nii, .nii.gz), NRRD, MHA, OCT (.e2e, .fda, .fds, .vol), PNG, JPEG, TIFF "
    "or a whole-slide image, or a .zip or .tar.gz of such files"
)


class Format(StrEnum):
    """A file format. Those marked * are one of several files that belong together (see `Identified.needs`)."""

    DICOM = "dicom"
    DICOM_WSI = "dicom-wsi"
    DICOMDIR = "dicomdir"  # *
    NIFTI = "nifti"
    NRRD = "nrrd"
    MHA = "mha"
    E2E = "heidelberg-e2e"
    VOL = "heidelberg-vol"
    HEYEX_XML = "heyex-xml"  # *
    TOPCON = "topcon"  # .fda and .fds
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"
    OME_TIFF = "ome-tiff"
    SLIDE_TIFF = "slide-tiff"  # Aperio, Hamamatsu NDPI, Leica, Philips, Trestle, Ventana, generic tiled
    ZEISS_CZI = "zeiss-czi"
    SAKURA = "sakura"
    MIRAX_INDEX = "mirax-index"  # *
    HAMAMATSU_INDEX = "hamamatsu-index"  # *
    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


ARCHIVES = frozenset({Format.ZIP, Format.TAR, Format.GZIP, Format.BZIP2, Format.XZ, Format.ZSTD})

MEDIA_TYPES: Mapping[Format, str] = MappingProxyType(
    {
        Format.DICOM: "application/dicom",
        Format.DICOM_WSI: "application/dicom",
        Format.DICOMDIR: "application/dicom",
        Format.NIFTI: "application/x-nifti",
        Format.NRRD: "application/x-nrrd",
        Format.MHA: "application/x-metaimage",
        Format.E2E: "application/x-heidelberg-e2e",
        Format.VOL: "application/x-heidelberg-vol",
        Format.HEYEX_XML: "application/xml",
        Format.TOPCON: "application/x-topcon-oct",
        Format.PNG: "image/png",
        Format.JPEG: "image/jpeg",
        Format.TIFF: "image/tiff",
        Format.OME_TIFF: "image/tiff",
        Format.SLIDE_TIFF: "image/tiff",
        Format.ZEISS_CZI: "application/x-zeiss-czi",
        Format.SAKURA: "application/x-sakura-svslide",
        Format.MIRAX_INDEX: "text/plain",
        Format.HAMAMATSU_INDEX: "text/plain",
        Format.ZIP: "application/zip",
        Format.TAR: "application/x-tar",
        Format.GZIP: "application/gzip",
        Format.BZIP2: "application/x-bzip2",
        Format.XZ: "application/x-xz",
        Format.ZSTD: "application/zstd",
    }
)


@dataclass(frozen=True)
class Identified:
    """What a file is.

    kind: the kind of study, None where the format alone does not tell (NIfTI: CT or MRI; PNG: OCT or a photograph).
    details: sizes, vendor and the like; nothing of it can identify a patient.
    needs: set when the file is no image without others, which must come with it in one archive; says which.
    """

    format: Format
    kind: Kind | None = None
    media_type: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)
    needs: str | None = None

    def __post_init__(self) -> None:
        if not self.media_type:
            object.__setattr__(self, "media_type", MEDIA_TYPES[self.format])

    @property
    def archive(self) -> bool:
        """Whether it is to be unpacked rather than read."""
        return self.format in ARCHIVES
