"""Files that are often sent and that we do not read: what they are, and what would be right."""

from shared.errors import UnsupportedImage
from shared.formats.types import ACCEPTED

_PICTURE = "save it as PNG, JPEG or TIFF"
_VOLUME = "save it as NIfTI (.nii.gz)"
_ARCHIVE = "pack it as .zip or .tar.gz"

# (offset, magic, what it is, what to do); the first that fits is told.
_KNOWN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"%PDF", "a PDF document", ACCEPTED),
    (0, b"GIF8", "a GIF picture", _PICTURE),
    (0, b"BM", "a BMP picture", _PICTURE),
    (8, b"WEBP", "a WebP picture", _PICTURE),
    (4, b"ftypheic", "a HEIC picture", _PICTURE),
    (4, b"ftypavif", "an AVIF picture", _PICTURE),
    (4, b"ftyp", "an MP4 film", ACCEPTED),
    (8, b"AVI ", "an AVI film", ACCEPTED),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", _PICTURE),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream", _PICTURE),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _PICTURE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (MINC 2, Imaris or another)", _VOLUME),
    (0, b"CDF\x01", "a NetCDF file (MINC 1 or another)", _VOLUME),
    (0, b"CDF\x02", "a NetCDF file (MINC 1 or another)", _VOLUME),
    (0, b"MATLAB 5.0", "a MATLAB file", _VOLUME),
    (0, b"\x00\x00\x00\x01\x00\x00", "an MGH volume of FreeSurfer, or another file", _VOLUME),
    (0, b"# vtk DataFile", "a VTK file", _VOLUME),
    (0, b"# === DATA DESCRIPTION FILE", "the .PAR half of a Philips PAR/REC pair", "send DICOM or NIfTI"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 image", "save it as OME-TIFF"),
    (0, b"\x70\x00\x00\x00", "a Leica LIF image, or another file", "save it as OME-TIFF"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _ARCHIVE),
    (0, b"Rar!\x1a\x07", "a RAR archive", _ARCHIVE),
    (0, b"\x1f\x9d", "a compress (.Z) file", _ARCHIVE),
    (0, b"LZIP", "an lzip file", _ARCHIVE),
    (0, b"\x7fELF", "a program", ACCEPTED),
    (0, b"MZ", "a Windows program", ACCEPTED),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document", ACCEPTED),
    (0, b"{\\rtf", "an RTF document", ACCEPTED),
    (0, b"#!/", "a script", ACCEPTED),
)


def refusal(head: bytes) -> UnsupportedImage:
    """Why a file that begins with `head`, and is none of ours, is refused.

    Repeats none of a text's words and at most four bytes of anything else: either may be a patient's name.
    """
    for offset, magic, what, advice in _KNOWN:
        if head[offset : offset + len(magic)] == magic and (len(magic) > 2 or not _is_text(head[:512])):
            return UnsupportedImage(f"The file is {what}, which is not read here; {advice}.")
    return UnsupportedImage(f"The file is {_described(head)}; {ACCEPTED}.")


def _described(head: bytes) -> str:
    start = head[:512]
    if not start.strip(b"\x00"):
        return "nothing but zero bytes at its beginning"
    if _is_text(start):
        markup = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        names = {b"<": "an XML or HTML document", b"{": "a JSON document"}
        return names.get(markup, "a text file") + " that is no image"
    return f"of an unknown type (its first bytes are {start[:4].hex(' ').upper()})"


def _is_text(start: bytes) -> bool:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    return all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 or byte >= 0x80 for byte in start) and any(
        32 <= byte < 127 for byte in start[:8]
    )
