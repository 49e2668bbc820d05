"""Why a DICOM file or series is refused; messages never repeat a value of the file, which may name a patient."""

from shared.errors import Invalid, UnsupportedImage


class NotDicom(UnsupportedImage):
    """The bytes are no DICOM file."""

    slug, title = "not-dicom", "Not a DICOM file"


class UnsupportedDicom(UnsupportedImage):
    """It is DICOM, of a kind that no volume can be made of here."""

    slug, title = "unsupported-dicom", "Unsupported DICOM file"


class DamagedDicom(Invalid):
    """The file ends early or contradicts the DICOM encoding."""

    slug, title = "damaged-dicom", "Damaged DICOM file"


class UnusableSeries(Invalid):
    """Each file can be read, but together they are no volume that could be measured in."""

    slug, title = "unusable-series", "Unusable DICOM series"
