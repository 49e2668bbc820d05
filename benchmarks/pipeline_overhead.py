"""What serving costs: wall time of the brain MRI pipeline beside the bare predictors on the same files.

    python -m benchmarks.pipeline_overhead [--case FOLDER] [--runs N]

Pipeline: from the task's start to its end, as `GET /api/scans/{id}` tells, in a real `hounsfield up` (events,
database, model server, masks and pictures written). Bare: one process that reads the same files and calls the same
predictors on the same slices and volumes, with the same number of threads. Runs alternate; medians are compared.
The aim is a ratio of at most 1.15.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from functions.demo import demo_files
from shared.config import Settings
from tests.integration.installation import Installation

AIM = 1.15


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case", type=Path, help="folder with *_t1, *_t1ce, *_t2, *_flair .nii.gz; default: as the demo"
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hounsfield-bench-") as name:
        folder = Path(name)
        title, files = ("the given case", _files_of(options.case)) if options.case else demo_files(folder)
        result = compare(folder, files, options.runs)
    print(f"input      {title}")
    print(f"threads    {Settings().threads}, runs {options.runs}, medians")
    for part in ("pipeline", "bare"):
        print(f"{part:<10} {result[part]:.2f} s   {[round(one, 2) for one in result[part + '_runs']]}")
    print(f"ratio      {result['ratio']:.3f}   (aim: at most {AIM})")
    print(json.dumps({name: result[name] for name in ("pipeline", "bare", "ratio", "steps")}))


def compare(folder: Path, files: list[Path], runs: int) -> dict[str, Any]:
    """Alternate the two, after one warming run of each."""
    pipeline: list[float] = []
    bare: list[float] = []
    with Installation(folder / "data") as installation, BarePredictors(files) as predictors:
        installation.start()
        installation.login()
        for run in range(runs + 1):
            seconds, steps = _pipeline_seconds(installation, files)
            alone = predictors.seconds()
            if run:
                pipeline.append(seconds)
                bare.append(alone)
    return {
        "pipeline": statistics.median(pipeline),
        "bare": statistics.median(bare),
        "pipeline_runs": pipeline,
        "bare_runs": bare,
        "ratio": statistics.median(pipeline) / statistics.median(bare),
        "steps": steps,
    }


class BarePredictors:
    """`benchmarks.bare_predictors` as a child process: one line in, one figure out."""

    def __init__(self, files: list[Path]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(Settings().threads), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "benchmarks.bare_predictors", *map(str, files)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "BarePredictors":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait()

    def seconds(self) -> float:
        """One pass over the input."""
        request = self._pipe(self._process.stdin)
        request.write("run\n")
        request.flush()
        return float(self._pipe(self._process.stdout).readline())

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _pipeline_seconds(installation: Installation, files: list[Path]) -> tuple[float, dict[str, float]]:
    study = installation.wait(installation.submit(files, duplicate="true")["id"], 600, poll=1)
    began, ended = (datetime.fromisoformat(study["task"][name]) for name in ("started_at", "completed_at"))
    steps = {step["name"]: step.get("seconds", 0.0) for step in study["results"]["steps"]}
    return (ended - began).total_seconds(), steps


def _files_of(case: Path) -> list[Path]:
    found = [path for name in ("t1", "t1ce", "t2", "flair") for path in case.glob(f"*_{name}.nii.gz")]
    if len(found) != 4:
        raise SystemExit(f"{case} does not have the four files *_t1, *_t1ce, *_t2, *_flair .nii.gz")
    return found


if __name__ == "__main__":
    main()
