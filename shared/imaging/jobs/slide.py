"""OpenSlide on a stranger's file: `python -m shared.imaging.jobs.slide`.

vendors: which of `paths` are slides, as a list of OpenSlide's names of vendors, or null. clean: `source`, freed of labels
and texts, to `target`. join: `source`, and what it needs beside it, to one TIFF at `target`. describe: what the slide at
`source` is.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.formats.identify import vendor_of
from shared.imaging.jobs.job import serve
from shared.imaging.slide import clean_slide, describe_slide, open_slide
from shared.imaging.slide.compare import scale_of
from shared.imaging.slide.reencode import write_plain


def work(order: dict[str, Any]) -> Any:
    """The answer to an order."""
    match order["action"]:
        case "vendors":
            return [vendor_of(Path(path)) for path in order["paths"]]
        case "clean":
            return asdict(clean_slide(Path(order["source"]), Path(order["target"])))
        case "join":
            with open_slide(Path(order["source"])) as slide, Path(order["target"]).open("xb") as target:
                write_plain(slide, scale_of(slide), target)
            return None
        case _:
            return asdict(describe_slide(Path(order["source"])))


if __name__ == "__main__":
    serve(work)
