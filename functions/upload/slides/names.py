"""What a slide's file may be called: its bytes decide later, but whoever sends a spreadsheet learns it before 50 GB."""

from shared.errors import Invalid
from shared.formats.names import ONLY_SLIDES, PARTS_OF_SLIDES, SLIDES

PACKED = (".zip", ".tar", ".tar.gz", ".tgz")


def require_slide_name(filename: str) -> None:
    """Raise Invalid for a name that no slide has that can be read here. Does not repeat it: it may name a patient."""
    name = filename.strip().lower()
    if name.endswith(PARTS_OF_SLIDES):
        raise Invalid("filename: such a slide is several files; send them all in one .zip, .tar or .tar.gz")
    if not name.endswith(SLIDES + PACKED):
        raise Invalid(f"filename: a slide's ends with {', '.join(SLIDES + PACKED)}")


def names_a_slide(filename: str) -> bool:
    """Whether only slides are called so."""
    return filename.strip().lower().endswith(ONLY_SLIDES)
