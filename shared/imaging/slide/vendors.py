"""Which images of a slide's TIFF stay, and which texts of them, by the rules of each vendor.

The rules are OpenSlide's (https://openslide.org/formats/, sources of 4.0): an image stays only if OpenSlide takes it
for a level of the pyramid; all others go, named or not.
"""

from collections.abc import Callable

from shared.imaging.slide.directories import (
    DESCRIPTION,
    NDPI_LENS,
    REDUCED,
    SOFTWARE,
    SUBFILE,
    XMP,
    Directory,
    NotInPlace,
    Tiff,
)
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.keep import Page
from shared.imaging.slide.texts import (
    OME,
    VENTANA,
    aperio_description,
    aperio_image,
    leica_images,
    leica_xml,
    local,
    parse_xml,
    philips_xml,
    plain_xml,
    ventana_description,
)


def pages_to_keep(tiff: Tiff, vendor: str) -> list[Page]:
    """The pages of the cleaned slide. Raises BrokenSlide; NotInPlace for a vendor without rules here."""
    rule = _RULES.get(vendor)
    if rule is None:
        raise NotInPlace
    pages = rule(tiff)
    if all(page.emptied for page in pages):
        raise BrokenSlide("The slide's file has no image of the slide beside label and macro.")
    return pages


def _aperio(tiff: Tiff) -> list[Page]:
    pages = []
    for directory in tiff.directories:
        said = _text(tiff, directory)
        if directory.is_tiled and aperio_image(said) not in ("label", "macro"):
            pages.append(Page(directory, {DESCRIPTION: aperio_description(said).encode()}))
    return pages


def _generic(tiff: Tiff) -> list[Page]:
    pages = []
    for number, directory in enumerate(tiff.directories):
        if directory.is_tiled and (number == 0 or tiff.number(directory, SUBFILE) & REDUCED):
            root = parse_xml(tiff.text(directory, DESCRIPTION)) if number == 0 else None
            ome = plain_xml(root, OME) if root is not None and local(root) == "OME" else b""
            pages.append(Page(directory, {DESCRIPTION: ome} if ome else {}))
    return pages


def _hamamatsu(tiff: Tiff) -> list[Page]:
    if not tiff.format.ndpi:
        raise NotInPlace
    return [Page(directory) for directory in tiff.directories if tiff.real(directory, NDPI_LENS) > 0]


def _philips(tiff: Tiff) -> list[Page]:
    root = parse_xml(tiff.text(tiff.directories[0], DESCRIPTION))
    if root is None:
        raise BrokenSlide("The Philips slide's XML cannot be read; the file is damaged.")
    tiled = [directory for directory in tiff.directories if directory.is_tiled]
    texts = {SOFTWARE: b"Philips", DESCRIPTION: philips_xml(root)}
    return [Page(directory, texts if number == 0 else {}) for number, directory in enumerate(tiled)]


def _leica(tiff: Tiff) -> list[Page]:
    root = parse_xml(tiff.text(tiff.directories[0], DESCRIPTION))
    if root is None:
        raise BrokenSlide("The Leica slide's XML cannot be read; the file is damaged.")
    main = [image for image, is_macro in leica_images(root) if not is_macro]
    if len(main) != 1:
        raise NotInPlace  # without its macro image OpenSlide opens no Leica slide of several parts
    named = {e.get("ifd", "") for e in main[0].iter() if local(e) == "dimension"}
    kept = [number for number in range(len(tiff.directories)) if str(number) in named]
    if len(kept) != len(named) or not kept:
        raise BrokenSlide("The Leica slide's XML names images that are not there; the file is damaged.")
    xml = leica_xml(root, kept)
    return [
        Page(tiff.directories[number], {DESCRIPTION: xml} if number == kept[0] else {}) for number in kept
    ]


def _ventana(tiff: Tiff) -> list[Page]:
    pages = []
    for number, directory in enumerate(tiff.directories):
        level = ventana_description(_text(tiff, directory))
        is_level = directory.is_tiled and "level=" in level
        if not is_level and number:
            continue
        root = parse_xml(tiff.text(directory, XMP))
        texts = {XMP: xml} if root is not None and (xml := plain_xml(root, VENTANA)) else {}
        # The first page, though often the label's picture, holds what OpenSlide knows a Ventana slide by.
        pages.append(
            Page(directory, {**texts, DESCRIPTION: level.encode()} if is_level else texts, not is_level)
        )
    return pages


def _text(tiff: Tiff, directory: Directory) -> str:
    return tiff.text(directory, DESCRIPTION).decode("utf-8", "replace")


_RULES: dict[str, Callable[[Tiff], list[Page]]] = {
    "aperio": _aperio,
    "generic-tiff": _generic,
    "hamamatsu": _hamamatsu,
    "leica": _leica,
    "philips": _philips,
    "ventana": _ventana,
}
