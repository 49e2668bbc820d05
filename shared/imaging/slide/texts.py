"""What may stay of the texts in a slide: only what is listed here, and only as numbers and known words.

The lists follow OpenSlide's formats pages (https://openslide.org/formats/), which name what readers need.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from shared.imaging.slide.errors import BrokenSlide

_APERIO_WORDS = re.compile(
    r"Aperio|Image|Library|Leica|Biosystems|GT450|v\d+(\.\d+){0,3}|\[\d+,\d+|\(?\d+x\d+[\])]?|->|-|;"
    r"|(JPEG|J2K|JPEG2000|LZW|RAW)/[A-Z0-9]{1,8}|Q=\d+"
)
APERIO_FIELDS = frozenset(
    {"AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset"}
    | {"Focus Offset", "Filtered", "OriginalWidth", "OriginalHeight", "Originalheight", "DisplayColor"}
    | {"Exposure Time", "Exposure Scale", "Gamma"}
)
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
_VALUE = re.compile(r'[-+0-9.eE, "]{1,400}')
_WORDS = frozenset({"brightfield", "fluorescence", "RIGHT", "UP", "LEFT", "DOWN", "WSI", "DPUfsImport"})
_WORDS |= {"DPScannedImage", "PixelDataRepresentation", "uint8", "uint16", "XYCZT", "XYZCT", "XYCTZ", "µm"}
_VENTANA_LEVEL = re.compile(r"(level|mag|quality)=[0-9.]{1,12}")
_PHILIPS_DERIVATION = re.compile(r"(?:^|-)((?:useBigTIFF|useRgb)=\d|levels=[0-9,]{1,200})(?=-|$)")
MAX_XML_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Allowed:
    """Elements that stay, by name without namespace, with the attributes that stay; and those whose text stays."""

    elements: Mapping[str, frozenset[str]]
    texts: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LEICA = Allowed(
    {
        "scn": frozenset(),
        "collection": _names("sizeX sizeY"),
        "image": frozenset(),
        "pixels": _names("sizeX sizeY"),
        "dimension": _names("sizeX sizeY r z c ifd"),
        "view": _names("sizeX sizeY offsetX offsetY spacingZ"),
        "scanSettings": frozenset(),
        "objectiveSettings": frozenset(),
        "objective": frozenset(),
        "illuminationSettings": frozenset(),
        "numericalAperture": frozenset(),
        "illuminationSource": frozenset(),
    },
    _names("objective numericalAperture illuminationSource"),
)
VENTANA = Allowed(
    {
        "Metadata": frozenset(),
        "iScan": _names("Magnification ScanRes Z-layers Z-spacing"),
        "EncodeInfo": _names("Ver"),
        "SlideStitchInfo": frozenset(),
        "ImageInfo": _names("AOIScanned AOIIndex Width Height NumRows NumCols Pos-X Pos-Y"),
        "TileJointInfo": _names("FlagJoined Confidence Direction Tile1 Tile2 OverlapX OverlapY"),
        "AoiOrigin": frozenset(),
        "AOI": _names("OriginX OriginY"),
    }
)
OME = Allowed(
    {
        "OME": frozenset(),
        "Image": frozenset(),
        "Pixels": _names(
            "SizeX SizeY SizeZ SizeC SizeT Type DimensionOrder BigEndian Interleaved SignificantBits "
            "PhysicalSizeX PhysicalSizeY PhysicalSizeZ PhysicalSizeXUnit PhysicalSizeYUnit PhysicalSizeZUnit"
        ),
        "Channel": _names("SamplesPerPixel"),
        "TiffData": _names("IFD FirstZ FirstC FirstT PlaneCount"),
    }
)
PHILIPS_NAMES = _names(
    "PIM_DP_SCANNED_IMAGES PIM_DP_IMAGE_TYPE PIM_DP_IMAGE_COLUMNS PIM_DP_IMAGE_ROWS "
    "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE PIIM_PIXEL_DATA_REPRESENTATION_NUMBER "
    "PIIM_PIXEL_DATA_REPRESENTATION_COLUMNS PIIM_PIXEL_DATA_REPRESENTATION_ROWS "
    "PIIM_DP_PIXEL_DATA_REPRESENTATION_POSITION DICOM_PIXEL_SPACING DICOM_DERIVATION_DESCRIPTION "
    "DICOM_BITS_ALLOCATED DICOM_BITS_STORED DICOM_HIGH_BIT DICOM_PIXEL_REPRESENTATION "
    "DICOM_PLANAR_CONFIGURATION DICOM_SAMPLES_PER_PIXEL"
)


def aperio_description(text: str) -> str:
    """The ImageDescription of an Aperio page: version, sizes, and fields that hold a listed number."""
    head, *fields = text.split("|")
    words = [line.replace(";", " ; ").split() for line in head.splitlines()]
    lines = [" ".join(word for word in line if _APERIO_WORDS.fullmatch(word)) for line in words]
    pairs = [field.partition("=") for field in fields]
    kept = [
        f"{name.strip()} = {value.strip()}"
        for name, _, value in pairs
        if name.strip() in APERIO_FIELDS and _NUMBER.fullmatch(value.strip())
    ]
    return "|".join(["\r\n".join(lines), *kept])


def aperio_image(text: str) -> str:
    """What an Aperio page's description calls it: the first word of its second line, such as `label`."""
    words = text.splitlines()[1].split() if len(text.splitlines()) > 1 else []
    return words[0].lower() if words else ""


def ventana_description(text: str) -> str:
    """`level=0 mag=40 quality=95`."""
    return " ".join(word for word in text.split() if _VENTANA_LEVEL.fullmatch(word))


def parse_xml(text: bytes) -> Element | None:
    """The root of an XML text without entities; None where it is none. Raises BrokenSlide for one too large."""
    if len(text) > MAX_XML_BYTES:
        raise BrokenSlide(f"The slide's XML has {len(text):,} bytes; {MAX_XML_BYTES:,} are the limit.")
    try:
        root: Element = fromstring(text.strip(b"\x00 \r\n\t"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return root


def plain_xml(root: Element, allowed: Allowed) -> bytes:
    """An XML text with what is allowed; b"" where not even its root is."""
    kept = _plain(root, allowed)
    if kept is None:
        return b""
    if root.tag.startswith("{"):
        kept.set("xmlns", root.tag[1:].partition("}")[0])
    return _written(kept)


def philips_xml(root: Element) -> bytes:
    """Philips' XML: of the scanned images only the slide itself, and of it only listed numbers."""
    return _written(_philips_object(root))


def local(element: Element) -> str:
    """An element's name without its namespace; AOI0, AOI1 … are AOI."""
    return re.sub(r"^AOI\d{1,6}$", "AOI", element.tag.rpartition("}")[2])


def leica_images(root: Element) -> list[tuple[Element, bool]]:
    """The images of a Leica collection, and whether each is a macro image, as OpenSlide tells: it covers the whole
    slide."""
    collection = next((child for child in root if local(child) == "collection"), None)
    if collection is None:
        raise BrokenSlide("The Leica slide's XML describes no images; the file is damaged.")
    whole = ("0", "0", collection.get("sizeX"), collection.get("sizeY"))
    found = []
    for image in (child for child in collection if local(child) == "image"):
        view = next((child for child in image if local(child) == "view"), None)
        places = ("offsetX", "offsetY", "sizeX", "sizeY")
        found.append((image, view is None or tuple(view.get(name) for name in places) == whole))
    return found


def leica_xml(root: Element, kept: Sequence[int]) -> bytes:
    """Leica's XML without macro images, its directories counted anew; `kept`: the numbers of those that stay."""
    collection = next(child for child in root if local(child) == "collection")
    for image, is_macro in leica_images(root):
        if is_macro:
            collection.remove(image)
    numbers = {str(old): str(new) for new, old in enumerate(kept)}
    for dimension in (element for element in root.iter() if local(element) == "dimension"):
        dimension.set("ifd", numbers[dimension.get("ifd", "")])
    return plain_xml(root, LEICA)


def _written(root: Element) -> bytes:
    return b'<?xml version="1.0"?>' + tostring(root)


def _safe(value: str) -> bool:
    return value in _WORDS or _VALUE.fullmatch(value) is not None


def _plain(element: Element, allowed: Allowed) -> Element | None:
    name = local(element)
    if name not in allowed.elements:
        return None
    attributes = {
        key: value for key, value in element.items() if key in allowed.elements[name] and _safe(value)
    }
    kept = Element(element.tag.rpartition("}")[2], attributes)
    text = (element.text or "").strip()
    if name in allowed.texts and _safe(text):
        kept.text = text
    kept.extend(found for child in element if (found := _plain(child, allowed)) is not None)
    return kept


def _philips_object(element: Element) -> Element:
    kind = element.get("ObjectType", "")
    kept = Element("DataObject", {"ObjectType": kind} if kind in _WORDS else {})
    for attribute in element:
        name = attribute.get("Name", "")
        if name in PHILIPS_NAMES:
            _philips_attribute(kept, attribute, name)
    return kept


def _philips_attribute(parent: Element, attribute: Element, name: str) -> None:
    array = attribute.find("Array")
    if array is None:
        text = (attribute.text or "").strip()
        if name == "DICOM_DERIVATION_DESCRIPTION":
            text = "-".join(_PHILIPS_DERIVATION.findall(text))
        if _safe(text) or name == "DICOM_DERIVATION_DESCRIPTION":
            SubElement(parent, "Attribute", {"Name": name}).text = text
        return
    kept = SubElement(SubElement(parent, "Attribute", {"Name": name}), "Array")
    for child in array.findall("DataObject"):
        if name != "PIM_DP_SCANNED_IMAGES" or _image_type(child) == "WSI":
            kept.append(_philips_object(child))


def _image_type(image: Element) -> str:
    types = [a.text or "" for a in image.findall("Attribute") if a.get("Name") == "PIM_DP_IMAGE_TYPE"]
    return types[0].strip() if types else ""
