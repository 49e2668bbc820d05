"""What the process that de-identifies loads."""

import subprocess
import sys

from shared.imaging.dicom.deid_start import UNUSED

CODE = """
import sys
from shared.imaging.dicom import deid_start
sys.meta_path.insert(0, deid_start.Absent())
import shared.imaging.dicom.deid_job
print(*sys.modules)
"""


def test_neither_decoders_nor_tools_for_downloads_are_loaded() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "pydicom" in loaded
    assert UNUSED & loaded == set()
