"""Describes a study of the volumes named as arguments; says by how many MiB that raised the peak of memory.

Its own process: the peak of a process never falls, and nothing but ingest may count.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from functions.ingest.service import UnusableFiles, describe
from shared.config import Settings
from shared.db.models import Study, StudyFile
from shared.db.session import Database
from shared.runtime import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.memory import peak_mib


def main(limit_bytes: str, *paths: str) -> None:
    with TemporaryDirectory() as folder:
        storage = FolderStorage(Path(folder), UrlSigner(b"secret"), "http://127.0.0.1")
        services = Services(
            Settings(max_volume_bytes=int(limit_bytes)), Database("postgresql+psycopg2://nowhere"), storage
        )
        study = Study(kind="brain-mri")
        for number, path in enumerate(map(Path, paths)):
            with path.open("rb") as stream:
                storage.put("studies", str(number), stream)
            study.files.append(
                StudyFile(id=UUID(int=number), filename=path.name, bucket="studies", key=str(number))
            )
        before = peak_mib()
        try:
            outcome = ", ".join(file.modality for file in describe(services, study))
        except UnusableFiles as fault:
            outcome = fault.detail
        sys.stdout.write(f"{peak_mib() - before}\t{outcome}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
