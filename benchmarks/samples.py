"""What becomes of every sample: `python -m benchmarks.samples [--only PART] [--write docs/samples.md]`.

Each file of HOUNSFIELD_DATA, and each folder of DICOM files or of sequences packed as .tar.gz, goes through the real
ingest: an embedded PostgreSQL, a folder store, the bus. Prints a table in Markdown; --write writes it to a file.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.db.session import Database
from shared.runtime.services import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from shared.telemetry.logs import configure_logs
from tests.intake import Intake, ingesting
from tests.samples import Became, samples, take_in


@contextmanager
def workplace() -> Iterator[tuple[Intake, Path]]:
    """A database, a store and a worker of their own."""
    with tempfile.TemporaryDirectory(prefix="hounsfield-samples-") as name:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "postgres")
        try:
            upgrade(server.url)
            settings = Settings(data_dir=folder / "data", retry_base_seconds=0.1, max_attempts=2)
            storage = FolderStorage(folder / "objects", UrlSigner(b"secret"), "http://127.0.0.1")
            services = Services(settings, Database(server.url), storage)
            with ingesting(services):
                yield Intake(services), folder
            services.close()
        finally:
            server.stop()


def table(lines: list[Became]) -> str:
    """The whole page."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.outcome] = counts.get(line.outcome, 0) + 1
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
    head = [
        "# What becomes of the samples",
        "",
        "Written by `python -m benchmarks.samples --write docs/samples.md`: every sample under HOUNSFIELD_DATA, each sent",
        "by itself without saying what it is (folders of files that belong together as one .tar.gz), and what ingest",
        "made of it. Of folders of files that are all alike, two of each stand for the rest.",
        "",
        f"{len(lines)} samples: {told}.",
        "",
        "| sample | kind | outcome | what was made | why, and what to know |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(line.line() for line in lines)]) + "\n"


def main() -> None:
    """Send them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only samples whose path contains this")
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    configure_logs("ERROR", "console")
    data = Path(os.environ.get("HOUNSFIELD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    lines = []
    with workplace() as (intake, folder):
        for sample in samples(data):
            if arguments.only not in sample.name:
                continue
            lines.append(take_in(intake, sample, folder))
            print(f"{lines[-1].seconds:6.2f} s  {lines[-1].line()}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\n{len(lines)} samples, peak of this process {peak} MiB")
    if arguments.write:
        arguments.write.write_text(table(lines))


if __name__ == "__main__":
    main()
