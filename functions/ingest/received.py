"""The files of a study as they were sent: told by their bytes, hashed, unpacked."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from functions.ingest.dicom_files import Headers
from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.made import Job, Notes, Source
from shared.archives import ArchiveLimits, Member, unpack
from shared.db.models import StudyFile
from shared.errors import UnsupportedImage
from shared.formats.identify import identify
from shared.formats.types import Format, Identified
from shared.imaging.nifti_header import Limits
from shared.intake import content_digest

BLOCK = 2**20
LARGEST_RATIO = 1100
"""Deflate reaches 1032:1 on blank planes and masks, which are honest; what bounds an archive is `total_bytes`."""


class Hashes:
    """sha256 of the files, computed while they are unpacked, for those that nobody hashed before."""

    def __init__(self, files: Sequence[StudyFile], paths: Mapping[UUID, Path]) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._running: dict[UUID, Future[str]] = {
            file.id: self._pool.submit(sha256_of, paths[file.id]) for file in files if file.sha256 is None
        }

    def close(self) -> None:
        """Stop; what is being hashed is hashed to its end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def checked(self) -> dict[UUID, str]:
        """All of them, by file. Raises UnusableFiles where one is not what its sender said."""
        hashes = {}
        for number, file in enumerate(self._files, 1):
            found = hashes[file.id] = file.sha256 or self._running[file.id].result()
            declared = str(file.details.get("declared_sha256") or found).lower()
            if declared != found:
                raise UnusableFiles(
                    f"file {number}: its sha256 is {found}, but {declared} was declared; it was damaged on its way, "
                    "send it again"
                )
        return hashes


@contextmanager
def hashing(files: Sequence[StudyFile], paths: Mapping[UUID, Path]) -> Iterator[Hashes]:
    """Hash the files while the block runs."""
    hashes = Hashes(files, paths)
    try:
        yield hashes
    finally:
        hashes.close()


def sha256_of(path: Path) -> str:
    """Hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: Sequence[StudyFile], hashes: Mapping[UUID, str]) -> str:
    """What the set of files is known by."""
    return content_digest((hashes[file.id], file.declared_modality) for file in files)


def recognised(
    files: Sequence[StudyFile], paths: Mapping[UUID, Path], max_volume_bytes: int, notes: Notes
) -> dict[UUID, Identified]:
    """What each file is. One that is nothing that is read here is passed over with a warning, if others came with it.

    Raises UnusableFiles for one that is damaged, or where none is left.
    """
    found, refusals = {}, []
    for number, file in enumerate(files, 1):
        with fault_of(f"file {number}"):
            try:
                limits = Limits(max_bytes=max_volume_bytes)
                found[file.id] = identify(paths[file.id], limits, slides=False)
            except UnsupportedImage as error:
                refusals.append(f"file {number}: {error.detail}")
    if not found:
        raise UnusableFiles(refusals[0])
    notes.warnings += refusals
    return found


@dataclass
class Contents:
    """Every file to be read: what was sent, and what was in the archives among that.

    members: all files of the archives by their paths there, also those that are nothing by themselves. headers: of the
    DICOM files among them.
    """

    sources: list[Source] = field(default_factory=list)
    members: dict[str, Path] = field(default_factory=dict)
    headers: Headers = field(default_factory=Headers)


def contents_of(
    job: Job,
    files: Sequence[StudyFile],
    found: Mapping[UUID, Identified],
    paths: Mapping[UUID, Path],
    names: Mapping[UUID, str],
    notes: Notes,
) -> Contents:
    """What there is to read. Raises UnusableFiles for an archive that is unsafe, damaged or of nothing that is read."""
    contents = Contents()
    for number, file in enumerate(files, 1):
        if (what := found.get(file.id)) is None:
            continue
        label, path, name = f"file {number}", paths[file.id], names[file.id]
        if what.archive:
            with fault_of(label):
                _unpack(job, path, label, file, contents, notes)
        else:
            contents.sources.append(Source(path, what, label, name, file, packed=False))
    return contents


def _unpack(job: Job, archive: Path, label: str, file: StudyFile, contents: Contents, notes: Notes) -> None:
    """What the archive holds. Texts, programs and the like are counted; an archive of nothing else is refused."""
    limits = ArchiveLimits(
        total_bytes=job.settings.max_archive_bytes,
        member_bytes=job.settings.max_archive_bytes,
        ratio=LARGEST_RATIO,
    )
    job.progress("unpacking", 1)
    members = unpack(archive, job.work(label.replace(" ", "-")), limits, contents.headers.note)
    sources, first = contents.sources, None
    before = len(sources)
    for number, member in enumerate(members, 1):
        contents.members[member.name] = member.path
        what, refusal = _identified(job, member, f"{label}, member {number}")
        if what is not None:
            name = member.name or "file"
            sources.append(Source(member.path, what, f"{label}, member {number}", name, file, packed=True))
        else:
            first = first or refusal
            notes.passed_over["not an image that is read here"] += 1
    if len(sources) == before:
        raise UnsupportedImage(first or "The archive is empty.")


def _identified(job: Job, member: Member, label: str) -> tuple[Identified | None, str | None]:
    """What a member is, or why it is none of ours. Raises UnusableFiles for one that is damaged."""
    try:
        with fault_of(label):
            try:
                limits = Limits(max_bytes=job.settings.max_volume_bytes)
                return identify(member.path, limits, slides=False), None
            except UnsupportedImage as error:
                return None, f"{label.partition(', ')[2]}: {error.detail}"
    except UnusableFiles as error:
        if member.size == 0:
            return None, error.detail
        raise


def is_dicom(source: Source) -> bool:
    """Whether it is a DICOM file, an index of others included."""
    return source.found.format in (Format.DICOM, Format.DICOM_WSI, Format.DICOMDIR)
