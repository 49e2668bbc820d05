"""Runs programs that read strangers' pixels: apart from us, with little memory, time and room on disk.

A decoder that crashes, or is driven to take all memory, ends its own process and is one refused file for us.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shared.imaging.dicom.errors import DamagedDicom

_SCRIPT = 'ulimit -v "$1" 2>/dev/null; ulimit -t "$2"; ulimit -f "$3"; ulimit -c 0; shift 3; exec "$@"'
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_bounded(
    command: Sequence[str], *, folder: Path, memory: int, disk: int, seconds: int, path: str | None = None
) -> str:
    """What `command` printed; it may take `memory` bytes, write files of `disk` bytes and run `seconds` of CPU time
    (three times as long by the clock). path: PYTHONPATH. Raises DamagedDicom when it fails or passes a limit.
    """
    limits = [str(memory // 1024), str(seconds), str(disk // 512 + 2048)]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD
    environment |= {"HOME": str(folder)} | ({"PYTHONPATH": path} if path else {})
    with tempfile.TemporaryFile(dir=folder) as output:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", _SCRIPT, "sh", *limits, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                timeout=3 * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DamagedDicom(f"The images could not be read within {3 * seconds} seconds.") from error
        output.seek(max(0, output.tell() - 8192))
        text = output.read().decode("utf-8", errors="replace")
    if done.returncode:
        raise ProgramFailed(done.returncode, text)
    return text


class ProgramFailed(DamagedDicom):
    """A program that read pixels ended in failure. `output` is for us alone: it may name files."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__("The images cannot be decoded; they are damaged, or larger than their headers say.")
        self.code, self.output = code, output
