"""What the training scripts share."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured figure of one model on one split; `n` is the number of cases (or slices) behind it."""

    model: str
    metric: str
    split: str
    value: float
    n: int


def default_data() -> Path:
    """The folder of real images: `HOUNSFIELD_DATA`, else `../shared/data` beside the checkout."""
    configured = os.environ.get("HOUNSFIELD_DATA")
    return Path(configured) if configured else Path(__file__).resolve().parents[3] / "shared" / "data"
