"""Thousands of damaged files: nothing but the documented errors leaves a public function, in bounded memory."""

import random
import subprocess
import sys

from tests.unit.shared.formats import samples
from tests.unit.shared.formats.fuzz import MEMORY, mutated

CASES = 3_300


def test_damaged_files_are_read_or_refused_and_nothing_else() -> None:
    """In a process of its own: a decoder that takes memory or dies takes no other test with it."""
    script = [sys.executable, "-m", "tests.unit.shared.formats.fuzz", str(CASES)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = {name: int(count) for name, count in (line.rsplit(": ", 1) for line in done.stdout.splitlines())}
    assert counts.pop("peak MiB") < MEMORY / 2**20 / 2
    assert sum(n for name, n in counts.items() if name.startswith("identify")) == CASES
    assert (
        min(
            counts[f"{door}: {end}"]
            for door in ("head", "identify", "read")
            for end in ("passed", "refused 422")
        )
        > 50
    )


def test_mutations_are_repeatable_and_damage() -> None:
    content = samples.nifti()
    files = [mutated(content, random.Random(f"0/{case}")) for case in range(200)]
    assert files == [mutated(content, random.Random(f"0/{case}")) for case in range(200)]
    assert sum(file != content for file in files) > 190
