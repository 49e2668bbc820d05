"""Runs `deid_job` without what pydicom loads wherever it finds it: decoders and tools for downloads, which nothing there
uses and which take half of the time that the process needs to start.

Run as `python -m shared.imaging.dicom.deid_start`; standard input as of `deid_job`.
"""

import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

UNUSED = frozenset({"PIL", "_gdcm", "gdcm", "jpeg_ls", "openjpeg", "pylibjpeg", "requests", "tqdm"})


class Absent(MetaPathFinder):
    """Finds that they are not installed."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """See importlib. Raises ModuleNotFoundError for what is not used."""
        if fullname in UNUSED:
            raise ModuleNotFoundError(f"{fullname} is not used here", name=fullname)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    runpy.run_module("shared.imaging.dicom.deid_job", run_name="__main__")
