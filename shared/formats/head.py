"""What a file is, as far as its first bytes tell: enough to refuse an upload early. Needs the standard library only.

Nothing here trusts a length: every read is bounded, every number is checked against the size of the file.
"""

from collections.abc import Callable

from shared.errors import UnsupportedImage
from shared.formats.containers import archive, slide_part, tiff
from shared.formats.dicom import bare_dicom, dicom
from shared.formats.foreign import refusal
from shared.formats.oct import oct_file
from shared.formats.pictures import jpeg, png
from shared.formats.source import HEAD_BYTES, BeyondHead, HeadSource, Source
from shared.formats.types import Format, Identified
from shared.formats.volumes import metaimage, nifti, nrrd

Recogniser = Callable[[Source], Identified | None]

# The order matters: DICOM before all that its preamble may look like, .nii.gz before gzip, and DICOM without
# preamble, which has no magic, last.
_RECOGNISERS: tuple[Recogniser, ...] = (
    dicom,
    png,
    jpeg,
    tiff,
    oct_file,
    nrrd,
    metaimage,
    nifti,
    slide_part,
    archive,
    bare_dicom,
)


def identify_head(head: bytes, size: int) -> Identified:
    """What the file of `size` bytes is that begins with `head` (64 KiB, or all of a shorter file).

    `details["complete"]` is False where the rest of the file must be seen to be sure. Raises UnsupportedImage,
    Invalid or TooLarge; the message says what was seen and what would be right.
    """
    if len(head) < min(size, HEAD_BYTES):
        raise ValueError(f"identify_head needs the first {HEAD_BYTES:,} bytes, or all of a shorter file")
    return recognise(HeadSource(head[:HEAD_BYTES], size))


def recognise(source: Source) -> Identified:
    """What `source` is; errors as `identify_head`."""
    if source.size == 0:
        raise UnsupportedImage("The file is empty.")
    for recogniser in _RECOGNISERS:
        try:
            found = recogniser(source)
        except BeyondHead:
            found = _unfinished(recogniser)
        if found is not None:
            return found
    raise refusal(source.read(0, min(source.size, 4096)))


def _unfinished(recogniser: Recogniser) -> Identified | None:
    """JPEG's frame header may lie beyond the head, behind large EXIF; all others answer from the head."""
    return Identified(Format.JPEG, details={"complete": False}) if recogniser is jpeg else None
