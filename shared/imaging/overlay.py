"""Pictures of a label map on its scan, for the report, the web page and the documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.errors import Invalid
from shared.imaging.drawing import INK, MARGIN, PAPER, Label, caption, legend, load_font, png, stacked
from shared.imaging.measure import slice_areas
from shared.imaging.slices import AXES, Axis, display_slice, mask_slice, pixel_mm, slice_count
from shared.imaging.volume import Volume

TUMOUR_LABELS = (
    Label(1, "Necrotic core", (228, 87, 86)),
    Label(2, "Oedema", (86, 180, 233)),
    Label(3, "Enhancing tumour", (240, 200, 60)),
)
"""The brain tumour labels in colours that stay apart for colour-blind readers."""

FILL = 0.45
FLOOR = 0.3
"""Brightness of a label's colour over black; over white it is full, so anatomy shows through."""
TISSUE = 0.08
"""Share of the window above which a pixel counts as tissue when the view is cropped."""
BORDER_MM = 14.0
WINDOW_PERCENTILES = (1.0, 99.5)
PANEL_HEIGHT = 480
BAR_MM = 50.0
_ENDS: Mapping[Axis, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}


def overlay_png(
    volume: Volume,
    label_map: Volume,
    index: int,
    labels: tuple[Label, ...] = TUMOUR_LABELS,
    axis: Axis = "axial",
) -> bytes:
    """One slice of `volume` with its labels: 8-bit RGB PNG with side letters, a 5 cm bar and a legend.

    `index` counts as in `display_slice`. Raises Invalid when the two are not on one grid.
    """
    _check_grid(volume, label_map)
    view = _view(volume, label_map, index, axis, window(volume))
    panel = _panel(view, labels, PANEL_HEIGHT / view.height_mm)
    return png(stacked([panel, legend(panel.width, _shown(label_map, labels))]))


def montage_png(
    volume: Volume, label_map: Volume, text: str, labels: tuple[Label, ...] = TUMOUR_LABELS
) -> bytes:
    """Axial, coronal and sagittal slices that show the lesion best, with `text` below.

    All at one scale; without a lesion, the middle of the volume. 8-bit RGB PNG.
    Raises Invalid when the grids differ.
    """
    _check_grid(volume, label_map)
    shades, indices = window(volume), lesion_indices(label_map, labels)
    planes: tuple[Axis, ...] = ("axial", "coronal", "sagittal")
    views = [_view(volume, label_map, indices[plane], plane, shades) for plane in planes]
    scale = PANEL_HEIGHT / max(view.height_mm for view in views)
    panels = [_panel(view, labels, scale) for view in views]
    row = Image.new("RGB", (sum(p.width for p in panels) + 2 * MARGIN, PANEL_HEIGHT), PAPER)
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + MARGIN
    return png(stacked([row, legend(row.width, _shown(label_map, labels)), caption(row.width, text)]))


def window(volume: Volume) -> tuple[float, float]:
    """The intensities shown black and white: percentiles of the voxels that differ from the background 0."""
    tissue = volume.data[volume.data != 0]
    if not tissue.size:
        return 0.0, 1.0
    step = max(1, tissue.size // 1_000_000)
    low, high = (float(v) for v in np.percentile(tissue[::step], WINDOW_PERCENTILES))
    return (low, high) if high > low else (high - 1.0, high)  # flat tissue shows white


def lesion_indices(label_map: Volume, labels: tuple[Label, ...]) -> dict[Axis, int]:
    """Per plane, the storage index of the slice that shows the lesion best; the middle when nothing is marked.

    Each label's area counts relative to its own largest section, so that a small core is not lost in oedema.
    """
    present = [label.value for label in _shown(label_map, labels)]
    indices: dict[Axis, int] = {}
    for plane in AXES:
        score = np.zeros(slice_count(label_map, plane))
        for value in present:
            areas = slice_areas(label_map, [value], plane)
            score += areas / areas.max()
        indices[plane] = int(score.argmax()) if present else len(score) // 2
    return indices


def blend(grey: NDArray[np.float32], mask: NDArray[np.int32], labels: tuple[Label, ...]) -> NDArray[np.uint8]:
    """(H, W) grey in 0–1 and (H, W) labels → (H, W, 3) uint8: translucent inside, solid on the contour."""
    picture = np.repeat(grey[..., None] * 255, 3, axis=2)
    edge = _contour(mask)
    shade = FLOOR + (1 - FLOOR) * grey[..., None]
    for label in labels:
        inside = mask == label.value
        tint = shade[inside] * np.array(label.colour)
        picture[inside] = (1 - FILL) * picture[inside] * (1 - FILL * grey[inside][:, None]) + FILL * tint
        picture[inside & edge] = label.colour
    return np.asarray(np.clip(np.round(picture), 0, 255), dtype=np.uint8)


def _contour(mask: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Labelled pixels that touch another label above, below, left or right."""
    padded = np.pad(mask, 1)
    centre = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((centre != 0) & np.logical_or.reduce([centre != other for other in around]))


@dataclass(frozen=True)
class _View:
    """A slice cropped to its tissue: grey (H, W) float32 in 0–1, mask (H, W) int32, edge of a pixel in mm."""

    grey: NDArray[np.float32]
    mask: NDArray[np.int32]
    axis: Axis
    pixel_mm: float

    @property
    def height_mm(self) -> float:
        """Height of the cropped slice."""
        return float(self.grey.shape[0] * self.pixel_mm)


def _view(volume: Volume, label_map: Volume, index: int, axis: Axis, shades: tuple[float, float]) -> _View:
    low, high = shades
    grey = np.clip((display_slice(volume, index, axis) - low) / (high - low), 0, 1)
    mask = mask_slice(label_map, index, axis)
    edge = pixel_mm(volume, axis)
    shown = (grey > TISSUE) | (mask != 0)
    rows, columns = (_padded_range(shown.any(axis=along), BORDER_MM / edge) for along in (1, 0))
    return _View(grey[rows, columns], mask[rows, columns], axis, edge)


def _padded_range(used: NDArray[np.bool_], border: float) -> slice:
    """From the first to the last used place and a border more, within the picture."""
    places = np.flatnonzero(used)
    if not len(places):
        return slice(None)
    return slice(max(0, int(places[0] - border)), int(places[-1] + border) + 1)


def _panel(view: _View, labels: tuple[Label, ...], pixels_per_mm: float) -> Image.Image:
    """The view with its letters and scale bar, centred in a panel PANEL_HEIGHT pixels high."""
    height, width = (max(1, round(n * view.pixel_mm * pixels_per_mm)) for n in view.grey.shape)
    grey = Image.fromarray(view.grey).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.fromarray(view.mask).resize((width, height), Image.Resampling.NEAREST)
    shown = np.clip(np.asarray(grey, dtype=np.float32), 0, 1)
    panel = Image.new("RGB", (width, PANEL_HEIGHT))
    blended = Image.fromarray(blend(shown, np.asarray(mask, dtype=np.int32), labels))
    panel.paste(blended, (0, (PANEL_HEIGHT - height) // 2))
    _annotate(panel, view.axis, pixels_per_mm)
    return panel


def _annotate(panel: Image.Image, axis: Axis, pixels_per_mm: float) -> None:
    draw = ImageDraw.Draw(panel)
    first, last = _ENDS[axis]
    _outlined(draw, (MARGIN, panel.height / 2), first, 22, "lm")
    _outlined(draw, (panel.width - MARGIN, panel.height / 2), last, 22, "rm")
    length = BAR_MM * pixels_per_mm
    right, bottom = panel.width - MARGIN, panel.height - MARGIN
    draw.rectangle((right - length, bottom - 4, right, bottom), fill=INK, outline=PAPER)
    _outlined(draw, (right - length / 2, bottom - 8), "5 cm", 15, "ms")


def _outlined(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str) -> None:
    draw.text(at, text, fill=INK, font=load_font(size), anchor=anchor, stroke_width=2, stroke_fill=PAPER)


def _shown(label_map: Volume, labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """The labels that occur, in legend order."""
    return tuple(label for label in labels if (label_map.data == label.value).any())


def _check_grid(volume: Volume, label_map: Volume) -> None:
    if not volume.same_grid(label_map):
        raise Invalid("The scan and its label map lie on different grids; resample the label map first.")
