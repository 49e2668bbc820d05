"""What OpenSlide and libtiff would not survive or take ages over, found before they see the file."""

from shared.formats.source import Source
from shared.imaging.slide.directories import DESCRIPTION, XMP, Tiff
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.texts import leica_images, local, parse_xml

LEICA = b"http://www.leica-microsystems.com/scn/"
VENTANA = b"EncodeInfo"
MOST_AREAS, MOST_TILES = 1_000, 2**24
"""Of a Ventana slide, and of an area along each edge and in all. The largest slides have 30,000 tiles."""
LIGHT = "scanSettings/illuminationSettings/illuminationSource"
OBJECTIVE = "scanSettings/objectiveSettings/objective"


def check_tiff(source: Source) -> None:
    """Raises BrokenSlide, Invalid or TooLarge for a TIFF that must not be opened."""
    tiff = Tiff(source)
    said = tiff.text(tiff.directories[0], DESCRIPTION)
    if LEICA in said:
        _check_leica(said)
    for directory in tiff.directories:
        if VENTANA in (said := tiff.text(directory, XMP)):
            _check_ventana(said)


def _check_leica(said: bytes) -> None:
    """OpenSlide 4.0.1 compares the objectives of brightfield images; where one is missing, the process dies."""
    root = parse_xml(said)
    if root is None:
        raise BrokenSlide("The Leica slide's XML cannot be read; the file is damaged.")
    namespace = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
    light, objective = ("/".join(namespace + step for step in path.split("/")) for path in (LIGHT, OBJECTIVE))
    for image, is_macro in leica_images(root):
        bright = (image.findtext(light) or "").strip() == "brightfield"
        if bright and not is_macro and not image.findtext(objective):
            raise BrokenSlide("The Leica slide's XML does not name the objective of an image.")


def _check_ventana(said: bytes) -> None:
    """OpenSlide 4.0.1 makes room for as many tiles as the XML says, and the process dies where there is none."""
    root = parse_xml(said)
    if root is None:
        raise BrokenSlide("The Ventana slide's XML cannot be read; the file is damaged.")
    areas = [element for element in root.iter() if local(element) == "ImageInfo"]
    tiles = [[_count(area.get(name, "")) for name in ("NumRows", "NumCols")] for area in areas]
    if len(areas) > MOST_AREAS or any(rows * columns > MOST_TILES for rows, columns in tiles):
        raise BrokenSlide("The Ventana slide's XML describes more tiles than a slide can have.")


def _count(text: str) -> int:
    """A whole number of tiles; what is none is too many."""
    return (
        int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 12 else MOST_TILES + 1
    )
