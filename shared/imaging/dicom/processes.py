"""Runs programs that read strangers' pixels: apart from us, with little memory, time and room on disk.

A decoder that crashes, or is driven to take all memory, ends its own process and is one refused file for us.
"""

import os
import secrets
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.imaging.dicom.errors import DamagedDicom

_SCRIPT = 'ulimit -v "$1" 2>/dev/null; ulimit -t "$2"; ulimit -f "$3"; ulimit -c 0; shift 3; exec "$@"'
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_TOLD = 8192
"""Bytes of what a program printed that are kept, the last ones."""


class BoundedProcess:
    """A program with limits, from its start to the end of the block.

    It may take `memory` bytes, write files of `disk` bytes and run `seconds` of CPU time (three times as long by the
    clock). path: PYTHONPATH. What it is to do may be told later, by `give`; a program whose caller dies reads the end
    of its input.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        memory: int,
        disk: int,
        seconds: int,
        path: str | None = None,
    ) -> None:
        limits = [str(memory // 1024), str(seconds), str(disk // 512 + 2048)]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD
        environment |= {"HOME": str(folder)} | ({"PYTHONPATH": path} if path else {})
        self._seconds = seconds
        self._output = (folder / f"printed-{secrets.token_hex(4)}").open("w+b")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", *limits, *command],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
        )
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._close_input()
        self._output.close()
        Path(self._output.name).unlink(missing_ok=True)

    def give(self, text: str) -> None:
        """One line for its standard input, the only one."""
        assert self._process.stdin is not None, "it was opened with a pipe"
        with suppress(BrokenPipeError):  # it has ended; `result` says how
            self._process.stdin.write(text.encode() + b"\n")
            self._process.stdin.flush()
        self._began = time.monotonic()

    def result(self) -> str:
        """What it printed, once it has ended. Raises DamagedDicom when it fails or passes a limit."""
        self._close_input()
        try:
            code = self._ended(max(0.0, self._began + 3 * self._seconds - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise DamagedDicom(f"The images could not be read within {3 * self._seconds} seconds.") from error
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, end - _TOLD))
        text = self._output.read().decode("utf-8", errors="replace")
        if code:
            raise ProgramFailed(code, text)
        return text

    def _ended(self, seconds: float) -> int:
        """Its exit code. `wait` with a time limit looks only every 50 ms whether a process has ended."""
        with suppress(OSError, AttributeError):  # no such descriptors: another system than Linux
            handle = os.pidfd_open(self._process.pid)
            try:
                watched = select.poll()
                watched.register(handle, select.POLLIN)
                watched.poll(1000 * seconds)
            finally:
                os.close(handle)
            seconds = 0.0
        return self._process.wait(seconds)

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


def run_bounded(
    command: Sequence[str],
    *,
    folder: Path,
    memory: int,
    disk: int,
    seconds: int,
    path: str | None = None,
    order: str = "",
) -> str:
    """What `command` printed; limits as of `BoundedProcess`. order: its standard input.

    Raises DamagedDicom when it fails or passes a limit.
    """
    with BoundedProcess(
        command, folder=folder, memory=memory, disk=disk, seconds=seconds, path=path
    ) as process:
        if order:
            process.give(order)
        return process.result()


class ProgramFailed(DamagedDicom):
    """A program that read pixels ended in failure. `output` is for us alone: it may name files."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__("The images cannot be decoded; they are damaged, or larger than their headers say.")
        self.code, self.output = code, output
