"""Starting a job, and what it says."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import shared
from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.processes import run_bounded

MEMORY = 2048 * 2**20
"""Address space, most of it that of libraries."""
JobName = Literal["slide", "oct"]
_ERRORS = {"Invalid": Invalid, "TooLarge": TooLarge, "UnsupportedImage": UnsupportedImage}


class JobFailed(Invalid):
    """The program that read the file died, or took too long."""

    slug, title = "broken-image", "Broken image"


def run_job(
    name: JobName, order: dict[str, Any], folder: Path, *, seconds: int, disk: int, memory: int = MEMORY
) -> Any:
    """What `shared.imaging.jobs.<name>` answers to `order`, under limits as of `BoundedProcess`.

    Raises the Invalid, TooLarge or UnsupportedImage that the job raised, or JobFailed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as work:
        answer = Path(work) / "answer.json"
        try:
            run_bounded(
                [sys.executable, "-m", f"shared.imaging.jobs.{name}"],
                folder=Path(work),
                memory=memory,
                disk=disk,
                seconds=seconds,
                path=str(Path(shared.__file__).parents[1]),
                order=json.dumps({**order, "answer": str(answer)}),
            )
            said = json.loads(answer.read_text())
        except (DamagedDicom, FileNotFoundError) as error:
            raise JobFailed("The file cannot be read: it is damaged, or made to harm its reader.") from error
    if "error" in said:
        raise _ERRORS[said["error"]](said["detail"])
    return said["answer"]
