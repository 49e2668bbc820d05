"""The text that a MetaImage file begins with. Needs the standard library only: uploads are refused by it."""

import re

from shared.errors import Invalid, UnsupportedImage

_END = re.compile(rb"^ElementDataFile\s*=[ \t]*([^\r\n]*)\r?\n", re.IGNORECASE | re.MULTILINE)


def metaimage_fields(start: bytes) -> tuple[dict[str, str], int]:
    """The `Key = Value` lines with lower-case keys, and where the voxels begin.

    start: of the file, 64 KiB or all of it. Raises Invalid where the header does not end in it, UnsupportedImage where
    the voxels are in another file.
    """
    end = _END.search(start)
    if end is None:
        raise Invalid("The MetaImage header does not end (ElementDataFile is missing).")
    if end[1].strip().upper() != b"LOCAL":
        raise UnsupportedImage(
            "The file is a MetaImage header (.mhd), whose voxels are in another file; save it as one .mha file."
        )
    pairs = (line.partition("=") for line in start[: end.start()].decode("latin-1").splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}, end.end()
