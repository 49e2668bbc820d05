"""From the nested tumour regions to the label map: 0 background, 1 NCR, 2 ED, 3 ET."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

NCR, ED, ET = 1, 2, 3


def compose(
    whole: NDArray[np.bool_], core: NDArray[np.bool_], enhancing: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Labels from WT, TC, ET of one shape. A region counts only inside the next larger one."""
    labels = np.zeros(whole.shape, dtype=np.uint8)
    labels[whole] = ED
    labels[whole & core] = NCR
    labels[whole & core & enhancing] = ET
    return labels


def drop_small_components(
    labels: NDArray[np.uint8], voxel_mm3: float, minimum_mm3: float
) -> NDArray[np.uint8]:
    """Clear every connected tumour (26 neighbours, any label) smaller than `minimum_mm3`."""
    components, count = ndimage.label(labels > 0, structure=np.ones((3, 3, 3)))
    if count == 0:
        return labels.copy()
    keep = np.bincount(components.ravel(), minlength=count + 1) * voxel_mm3 >= minimum_mm3
    return np.where(keep[components], labels, 0).astype(np.uint8)


def drop_little_enhancement(
    labels: NDArray[np.uint8], voxel_mm3: float, minimum_mm3: float
) -> NDArray[np.uint8]:
    """Relabel enhancing tumour as necrotic core if there is less than `minimum_mm3` of it in all.

    nnU-Net's rule for BraTS (Isensee et al. 2021): a few enhancing voxels are more often noise than tumour.
    """
    result = labels.copy()
    if np.count_nonzero(labels == ET) * voxel_mm3 < minimum_mm3:
        result[labels == ET] = NCR
    return result
