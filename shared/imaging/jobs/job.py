"""The end of a job that runs in the process of its own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import HounsfieldError, Invalid, TooLarge, UnsupportedImage


def serve(work: Callable[[dict[str, Any]], Any]) -> None:
    """Do what one line of the standard input says, and write the answer where it says."""
    order = json.loads(sys.stdin.readline())
    try:
        answer: dict[str, Any] = {"answer": work(order)}
    except (Invalid, TooLarge, UnsupportedImage) as error:
        answer = {"error": _kind_of(error), "detail": error.detail}
    Path(order["answer"]).write_text(json.dumps(answer))


def _kind_of(error: HounsfieldError) -> str:
    """The name of the class of errors that says how the caller goes on."""
    return next(kind.__name__ for kind in (Invalid, TooLarge, UnsupportedImage) if isinstance(error, kind))
