"""What a slide's file may be called: its bytes decide later, but whoever sends a spreadsheet learns it before 50 GB."""

from shared.errors import Invalid

SINGLE = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".svslide", ".czi", ".qptiff", ".dcm", ".dicom")
"""One file is all of the slide."""
SEVERAL = (".mrxs", ".vms", ".vmu")
"""One of several files."""
PACKED = (".zip", ".tar", ".tar.gz", ".tgz")


def require_slide_name(filename: str) -> None:
    """Raise Invalid for a name that no slide has that can be read here. Does not repeat it: it may name a patient."""
    name = filename.strip().lower()
    if name.endswith(SEVERAL):
        raise Invalid("filename: such a slide is several files; send them all in one .zip, .tar or .tar.gz")
    if not name.endswith(SINGLE + PACKED):
        raise Invalid(f"filename: a slide's ends with {', '.join(SINGLE + PACKED)}")


def names_a_slide(filename: str) -> bool:
    """Whether only slides are called so."""
    return filename.strip().lower().endswith((".svs", ".ndpi", ".scn", ".bif", ".svslide", ".czi", ".qptiff"))
