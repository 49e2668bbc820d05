"""Any OCT file as `OctVolume`s."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shared.errors import UnsupportedImage
from shared.formats.types import Format
from shared.imaging.oct.heidelberg_e2e import read_e2e
from shared.imaging.oct.heidelberg_vol import read_vol
from shared.imaging.oct.heyex_xml import read_heyex_xml
from shared.imaging.oct.topcon import read_topcon
from shared.imaging.oct.volume import OctVolume
from shared.imaging.raster import Raster, read_raster

NO_SCALE = "A picture of a B-scan does not say the size of its pixels; nothing can be measured."
_PICTURES = frozenset({Format.PNG, Format.JPEG, Format.TIFF, Format.OME_TIFF})


def read_oct(path: Path, found: Format, pictures: Mapping[str, Path] | None = None) -> tuple[OctVolume, ...]:
    """The scans in the file at `path`, which was identified as `found`; several only in .e2e files.

    pictures: for HEYEX XML, the files that came with it, by name in lower case. DICOM is read elsewhere.
    Raises UnsupportedImage, Invalid or TooLarge.
    """
    if found is Format.E2E:
        return read_e2e(path)
    if found is Format.VOL:
        return (read_vol(path),)
    if found is Format.TOPCON:
        return (read_topcon(path),)
    if found is Format.HEYEX_XML:
        return (read_heyex_xml(path, pictures or {}),)
    if found in _PICTURES:
        return (single_bscan(read_raster(path)),)
    raise UnsupportedImage(
        f"A file of the format {found} is no OCT scan; send .e2e, .fda, .fds, .vol, PNG or DICOM."
    )


def single_bscan(raster: Raster) -> OctVolume:
    """One B-scan from a picture; coloured ones become grey."""
    return OctVolume(np.ascontiguousarray(raster.grey)[None], None, NO_SCALE, None, "unknown")
