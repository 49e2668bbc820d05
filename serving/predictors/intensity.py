"""Intensity normalisation, the same in training and in prediction."""

import numpy as np
from numpy.typing import NDArray

CLIP_PERCENTILES = (0.5, 99.5)


def normalise(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Robust z-score of the non-zero voxels of one channel; voxels that are zero stay zero.

    The non-zero voxels are clipped to their 0.5th and 99.5th percentile first, so that a few very bright
    vessels do not set the scale. A channel without signal comes back as zeros.
    """
    found = np.asarray(image, dtype=np.float32)
    inside = found != 0
    values = found[inside]
    if values.size == 0:
        return np.zeros_like(found)
    low, high = np.percentile(values, CLIP_PERCENTILES)
    values = np.clip(values, low, high)
    spread = float(values.std())
    result = np.zeros_like(found)
    result[inside] = (values - values.mean()) / spread if spread > 0 else 0.0
    return result
