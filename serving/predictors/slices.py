"""Preparing one 2D slice for a slice model: crop to the head, normalise, pad to a square, resize. NumPy and Pillow only.

Frame: row 0 is anterior, column 0 is the patient's right (as a radiological viewer shows an axial slice).
Intensities may have any scale and offset: they are read relative to percentiles of the slice itself.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

Float: TypeAlias = NDArray[np.float32]
Normalisation: TypeAlias = Literal["imagenet", "unit", "caffe", "minus_one_one"]

FOREGROUND_LEVEL = 0.1  # of the range between the darkest and the brightest tissue
FOREGROUND_SHARE = 0.02  # of a row or column; below it, specks, rulers and burnt-in text are not the head

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], dtype=np.float32)


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels, `bottom` and `right` exclusive. It may reach beyond the image."""

    top: int
    bottom: int
    left: int
    right: int


class Preprocessing(BaseModel):
    """`preprocessing:` of the manifest. `margin` is added around the head, as a share of its longer side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=2048)
    normalisation: Normalisation = "minus_one_one"
    crop: Literal["head", "none"] = "head"
    margin: float = Field(default=0.04, ge=0, le=0.5)


def prepare(images: NDArray[np.floating[Any]], how: Preprocessing) -> Float:
    """(N, H, W) raw intensities → (N, size, size, 3) in the range the network was trained on."""
    return np.stack(
        [normalise(to_square(image.astype(np.float32), how), how.normalisation) for image in images]
    )


def to_square(image: Float, how: Preprocessing) -> Float:
    """(H, W) raw intensities → (size, size) in 0…1, the head filling the frame."""
    scaled = rescale(image)
    box = head_box(scaled, how.margin) if how.crop == "head" else Box(0, image.shape[0], 0, image.shape[1])
    return resize(cut_square(scaled, box), how.size)


def rescale(image: Float) -> Float:
    """(H, W) any scale and offset → 0…1: 0 at or below the 1st, 1 at the 99th percentile of the foreground.

    The 0.5th percentile of the whole slice stands for air, so that a constant slice becomes all zero.
    """
    image = _air_darkest(image)
    low, high = np.percentile(image, (0.5, 99.5))
    if high <= low:
        return np.zeros_like(image)
    foreground = image[image > low + FOREGROUND_LEVEL * (high - low)]
    dark, bright = np.percentile(foreground, (1.0, 99.0))
    # The darkest tissue is close to air: keep the zero at air, or skull-stripped brains lose their outline.
    floor = low + 0.5 * (dark - low)
    scaled: Float = ((image - floor) / max(float(bright - floor), 1e-6)).astype(np.float32)
    return scaled.clip(0.0, 1.0)


def _air_darkest(image: Float) -> Float:
    """Air moved well below the tissue where it is not: z-scored brains leave it at 0, amid the tissue."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    values, counts = np.unique(border, return_counts=True)
    air = values[counts.argmax()]
    if counts.max() < 0.6 * border.size or air <= image.min():
        return image
    dark, bright = np.percentile(image[image != air], (1.0, 99.0))
    return np.where(image == air, min(dark - 0.5 * (bright - dark), image.min()), image).astype(np.float32)


def head_box(scaled: Float, margin: float = 0.04) -> Box:
    """The rectangle around the head in a 0…1 slice, widened by `margin` of its longer side. Whole image if empty."""
    foreground = scaled > FOREGROUND_LEVEL
    height, width = scaled.shape
    rows = np.flatnonzero(foreground.mean(axis=1) > FOREGROUND_SHARE)
    columns = np.flatnonzero(foreground.mean(axis=0) > FOREGROUND_SHARE)
    if rows.size == 0 or columns.size == 0:
        return Box(0, height, 0, width)
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    grow = round(margin * max(bottom - top, right - left))
    return Box(top - grow, bottom + grow, left - grow, right + grow)


def cut_square(image: Float, box: Box) -> Float:
    """The box of an (H, W) image centred in a square of its longer side; zero beyond the box and the image."""
    height, width = image.shape
    side = max(box.bottom - box.top, box.right - box.left, 1)
    out = np.zeros((side, side), dtype=np.float32)
    top, bottom = max(box.top, 0), min(box.bottom, height)
    left, right = max(box.left, 0), min(box.right, width)
    down = (side - (box.bottom - box.top)) // 2 + top - box.top
    across = (side - (box.right - box.left)) // 2 + left - box.left
    out[down : down + bottom - top, across : across + right - left] = image[top:bottom, left:right]
    return out


def resize(image: Float, size: int) -> Float:
    """(H, W) → (size, size), bilinear with antialiasing."""
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def normalise(image: Float, kind: Normalisation) -> Float:
    """(H, W) in 0…1 → (H, W, 3) as the backbone expects it. `caffe` is BGR, 0…255 less the ImageNet mean."""
    channels = np.repeat(image[..., None], 3, axis=-1)
    match kind:
        case "imagenet":
            return (channels - _IMAGENET_MEAN) / _IMAGENET_STD
        case "unit":
            return channels
        case "caffe":
            return channels * np.float32(255.0) - _CAFFE_MEAN_BGR
        case "minus_one_one":
            return channels * np.float32(2.0) - np.float32(1.0)
