"""What files are called. A name proves nothing, but says early what somebody meant to send."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.formats.types import Format

_TIFF = (".tif", ".tiff")
_SLIDE_TIFF = (".svs", ".ndpi", ".scn", ".bif", ".qptiff")
_DICOM = (".dcm", ".dicom")

SUFFIXES: Mapping[Format, tuple[str, ...]] = MappingProxyType(
    {
        Format.DICOM: (*_DICOM, ".ima"),
        Format.DICOM_WSI: _DICOM,
        Format.NIFTI: (".nii", ".gz"),
        Format.NRRD: (".nrrd",),
        Format.MHA: (".mha",),
        Format.E2E: (".e2e",),
        Format.VOL: (".vol",),
        Format.HEYEX_XML: (".xml",),
        Format.TOPCON: (".fda", ".fds"),
        Format.PNG: (".png",),
        Format.JPEG: (".jpg", ".jpeg"),
        Format.TIFF: _TIFF,
        Format.OME_TIFF: _TIFF,
        Format.SLIDE_TIFF: (*_SLIDE_TIFF, *_TIFF),
        Format.ZEISS_CZI: (".czi",),
        Format.SAKURA: (".svslide",),
        Format.ZIP: (".zip",),
        Format.TAR: (".tar",),
        Format.GZIP: (".gz", ".tgz"),
    }
)
"""The last suffix of a file of each format, in lower case."""

ONLY_SLIDES = (*_SLIDE_TIFF, *SUFFIXES[Format.SAKURA], *SUFFIXES[Format.ZEISS_CZI])
"""What only slides are called that are one file."""
SLIDES = (*ONLY_SLIDES, *_TIFF, *_DICOM)
"""What a slide may be called, or one of its files if it is DICOM."""
PARTS_OF_SLIDES = (".mrxs", ".vms", ".vmu")
"""What one of a slide's several files is called."""
ONLY_OCT = (*SUFFIXES[Format.E2E], *SUFFIXES[Format.TOPCON], *SUFFIXES[Format.VOL])
"""What only volumes of OCT are called."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
