"""OpenSlide on a stranger's file: `python -m shared.imaging.jobs.slide`.

vendors: which of `paths` are slides, as a list of OpenSlide's names of vendors, or null. clean: `source`, freed of labels
and texts, to `target`. describe: what the slide at `source` is.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.formats.identify import vendor_of
from shared.imaging.jobs.job import serve
from shared.imaging.slide import clean_slide, describe_slide


def work(order: dict[str, Any]) -> Any:
    """The answer to an order."""
    match order["action"]:
        case "vendors":
            return [vendor_of(Path(path)) for path in order["paths"]]
        case "clean":
            return asdict(clean_slide(Path(order["source"]), Path(order["target"])))
        case _:
            return asdict(describe_slide(Path(order["source"])))


if __name__ == "__main__":
    serve(work)
