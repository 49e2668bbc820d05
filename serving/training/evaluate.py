"""Measure every model of the catalogue: `python -m serving.training.evaluate [--data DIR] [--json]`."""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from serving.training import evaluate_segmentation, evaluate_slices
from serving.training.common import Row, default_data

CATALOGUE = Path(__file__).resolve().parents[1] / "catalogue"


def evaluate(data_dir: Path, catalogue_dir: Path) -> list[Row]:
    """The rows of all models. Progress goes to standard error, so that standard output stays the table."""
    with contextlib.redirect_stdout(sys.stderr):
        rows = list(evaluate_slices.evaluate(data_dir, catalogue_dir))
        cases = evaluate_segmentation.evaluate(data_dir, catalogue_dir / evaluate_segmentation.MODEL)
    return rows + evaluate_segmentation.rows(cases)


def table(rows: Sequence[Row]) -> str:
    """One aligned line per row."""
    header = ("model", "metric", "split", "value", "n")
    cells = [header, *((row.model, row.metric, row.split, f"{row.value:.4f}", str(row.n)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    rows = evaluate(options.data, options.catalogue)
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else table(rows))


if __name__ == "__main__":
    main()
