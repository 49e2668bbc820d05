"""Which MRI sequence an image looks like, by three measurements that a reader of MRI would recognise.

1. T2: fluid and oedema shine, so the brightest tenth lies far above the middle and contrast leans bright.
2. T1CE: vessels and enhancing rims are a thin, very bright tail on an otherwise T1-like histogram.
3. T1: grey matter and fluid are dark against white matter, so deep local contrast leans dark;
   FLAIR has grey matter brighter than white and hardly leans.

The thresholds lie midway between the classes of five BraTS 2021 cases (skull-stripped, one preprocessing).
With thresholds refitted leaving one case out, 20 of 20 images are told right, but the measurements themselves
were chosen on these cases: hence CAP_STRIPPED. On one raw scan with the skull on, 2 of 4 are right: hence
CAP_SKULL_ON, under which `shared.imaging.modality` asks the user instead.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

import numpy as np

from shared.imaging.foreground import Foreground, find_foreground
from shared.imaging.volume import Volume

Sequence = Literal["t1", "t1ce", "t2", "flair"]

CAP_STRIPPED = 0.6
CAP_SKULL_ON = 0.35
TEXTURE_MM = 3.0
DEEP_MM = 14.0
SKEW_WEIGHT = 0.15
"""How much one unit of skew adds to the evidence of bright fluid."""


@dataclass(frozen=True)
class Look:
    """The three measurements.

    brightness: ln(90th / 50th percentile). tail: ln(99.9th / 95th). skew: skewness of deep local contrast.
    """

    brightness: float
    tail: float
    skew: float


@dataclass(frozen=True)
class Boundary:
    """A threshold and the distance from it at which the odds are e : 1."""

    at: float
    width: float

    def above(self, value: float) -> float:
        """Probability that `value` belongs above the threshold."""
        return 1 / (1 + exp(-max(-30.0, min(30.0, (value - self.at) / self.width))))


BRIGHT = Boundary(0.66, 0.05)
TAIL = Boundary(0.43, 0.04)
SKEW = Boundary(-0.78, 0.15)


def measure_look(coarse: Foreground) -> Look:
    """The measurements of one scan."""
    inside = coarse.data[coarse.brain]
    middle, p90, p95, p999 = (max(float(v), 1e-6) for v in np.percentile(inside, [50, 90, 95, 99.9]))
    local = coarse.data - coarse.smooth(coarse.data, TEXTURE_MM)
    deep = local[coarse.brain & (coarse.depth_mm >= DEEP_MM)]
    low, high = np.percentile(deep, [1, 99])
    deep = np.clip(deep, low, high)
    centred = deep - deep.mean()
    skew = float((centred**3).mean() / max(float(deep.std()) ** 3, 1e-12))
    return Look(float(np.log(p90 / middle)), float(np.log(p999 / p95)), skew)


def image_probabilities(volume: Volume) -> dict[Sequence, float]:
    """Chance of each sequence, none above the cap (the rest is shared, so they sum to 1).

    Raises Invalid when hardly any tissue is visible.
    """
    coarse = find_foreground(volume)
    look = measure_look(coarse)
    t2 = BRIGHT.above(look.brightness + SKEW_WEIGHT * look.skew)
    tail, level = TAIL.above(look.tail), SKEW.above(look.skew)
    raw: dict[Sequence, float] = {
        "t1": (1 - t2) * (1 - tail) * (1 - level),
        "t1ce": (1 - t2) * tail,
        "t2": t2,
        "flair": (1 - t2) * (1 - tail) * level,
    }
    cap = CAP_SKULL_ON if coarse.skull_on else CAP_STRIPPED
    sure = (cap - 0.25) / 0.75  # mixes in ignorance: certainty becomes the cap, a tie stays a tie
    return {modality: sure * chance + (1 - sure) / 4 for modality, chance in raw.items()}
