"""Heidelberg's linear reflectivity as the grey values that its own software shows.

Source: https://github.com/marksgraham/OCT-Converter/issues/21 (transform) and
https://github.com/neurodial/LibE2E (the 16-bit float of .e2e files).
"""

import numpy as np
from numpy.typing import NDArray

NO_DATA = np.float32(3.0e38)
"""Values from here on mark places outside the scan (the largest float, or 3e38)."""


def displayed(reflectivity: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(height, width) float32 in 0–1 → uint8, logarithmic. Over 1 is white, the largest float (no data) black."""
    shown = (np.log(np.clip(reflectivity, 0, 1) + 2.44e-4) + 8.3) / 8.285
    shown[reflectivity >= NO_DATA] = 0
    return np.asarray(np.round(np.clip(shown, 0, 1) * 255), dtype=np.uint8)


def _table() -> NDArray[np.uint8]:
    """Grey value of each 16-bit float: no sign, 6 bits of exponent, 10 of mantissa; the last codes mark no data."""
    code = np.arange(2**16)
    exponent, mantissa = code >> 10, (code & 1023) / 1024
    value = np.where(exponent == 0, np.ldexp(mantissa, -62), np.ldexp(1 + mantissa, exponent - 63))
    value[value > 1.99] = NO_DATA
    return displayed(value.astype(np.float32))


UFLOAT16 = _table()
"""(65536,) uint8: the grey value of each sample of an .e2e B-scan."""
