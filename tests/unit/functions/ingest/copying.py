"""Rewrites the volume named first as the file named second; says by how many MiB that raised the peak of memory.

Its own process: the peak of a process never falls, and nothing else may count.
"""

import sys
from pathlib import Path

from shared.imaging.nifti import Limits, copy_nifti
from tests.memory import peak_mib

before = peak_mib()
copy_nifti(Path(sys.argv[1]), Path(sys.argv[2]), Limits())
sys.stdout.write(str(peak_mib() - before))
