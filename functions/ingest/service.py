"""What ingest decides: what a study's files are, whether they can be used, and what is made of them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from functions.ingest.brain_mri import make_brain_mri
from functions.ingest.ct import Reasons, looks_like_ct, make_ct
from functions.ingest.dicom_files import KINDS, DicomFiles, read_dicom
from functions.ingest.faults import Held, NotWanted, UnusableFiles, blame_removal, fault_of, room_in
from functions.ingest.folders import work_folder
from functions.ingest.kinds import Decision, decide
from functions.ingest.made import Job, MadeFile, Notes, PackedSeries, Patient, Progress, Source
from functions.ingest.objects.service import remove_taken
from functions.ingest.oct import make_oct
from functions.ingest.packing import Packing, patient_of, pseudonym_of, series_of
from functions.ingest.received import Contents, contents_of, digest_of, hashing, is_dicom, recognised
from functions.ingest.repository import IngestRepository
from functions.ingest.slide import make_dicom_slide, make_slide, told_slides
from functions.ingest.storing import Place, keep_original, store_file, store_series
from functions.ingest.volumes import stored
from shared.db.models import DicomSeries, FileRole, Study, StudyFile
from shared.events import StudyIngested, StudyRejected
from shared.events.types import Kind
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from shared.imaging.dicom.instance import Instance
from shared.runtime import LongWork, Services, UnitOfWork
from shared.security.keys import key_store
from shared.security.rings import derive
from shared.security.sealing import name_ring
from shared.storage.port import ObjectNotFound

PSEUDONYMS = "dicom-pseudonyms"
"""Purpose of the secret that UIDs, dates and patients' pseudonyms are derived with."""
EARLY_BYTES = 16 * 2**20
"""From this size on, an archive takes longer to unpack than the process that packs its images takes to start."""
Known = Callable[[str], UUID | None]
"""The owner's other study of the files with this digest, if there is one."""


@dataclass(frozen=True)
class Outcome:
    """A study that can be used: its rows, whose objects are stored, and what is known of it."""

    kind: Kind
    details: dict[str, Any]
    files: list[StudyFile]
    series: list[DicomSeries]
    patient: Patient | None
    hashes: dict[UUID, str]
    digest: str


@dataclass
class _Made:
    """What was made of the files before it is stored."""

    files: list[MadeFile] = field(default_factory=list)
    reasons: Reasons = field(default_factory=dict)


def pseudonym_secret(services: Services) -> bytes:
    """What UIDs, dates and pseudonyms are derived with: the same for ever, or later studies would not fit earlier ones.

    So it is derived from the oldest key of the one ring whose keys are never retired, whatever is rotated since.
    """
    ring = services.once(key_store).audit_ring
    _ = ring.current  # there is one, or this says what to do
    return derive(ring.kept()[0].value, PSEUDONYMS)


def progress_of(work: LongWork, study_id: UUID) -> Progress:
    """Says in the database how far the study is. Raises Retry when the process is stopping, NotWanted."""

    def say(step: str, percent: int) -> None:
        work.pause_point()
        with work.unit() as unit:
            if not IngestRepository(unit.session).progress(study_id, step, percent):
                raise NotWanted

    return say


def known_to(work: LongWork, study: Study) -> Known:
    """Looks for the same files among the owner's studies."""

    def find(digest: str) -> UUID | None:
        with work.unit() as unit:
            return IngestRepository(unit.session).known(study, digest)

    return find


def take_in(services: Services, study: Study, progress: Progress, known: Known) -> Outcome:
    """Read the study's files, make of them what is kept, and store that. Nothing is committed.

    Raises UnusableFiles, which says what is wrong with which file, or Held. Whatever else goes wrong is no fault of the
    files.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(work_folder(services.settings))
        stack.enter_context(room_in(folder))
        stack.enter_context(fault_of())
        job = Job(
            study.tenant_id, study.id, folder, services.settings, study.released_by is not None, progress
        )
        return _Intake(services, study, job, stack).run(known)


class _Intake:
    """One study on its way in."""

    def __init__(self, services: Services, study: Study, job: Job, stack: ExitStack) -> None:
        self._services = services
        self._study = study
        self._job = job
        self._stack = stack
        self.notes = Notes()
        self._names = services.once(name_ring)
        self._files = [file for file in study.files if file.role == FileRole.RECEIVED]

    def run(self, known: Known) -> Outcome:
        """All of it."""
        if not self._files:
            raise UnusableFiles("no file was received; send at least one")
        paths = self._paths()
        names = {file.id: self._names.filename(file) for file in self._files}
        found = recognised(self._files, paths, self._job.settings.max_volume_bytes, self.notes)
        hashing_ = self._stack.enter_context(hashing(self._files, paths))
        pool = self._stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="packing"))
        packer = _Dicom(self, pool)
        if sum(file.size for file in self._files) >= EARLY_BYTES and any(
            what.archive for what in found.values()
        ):
            packer.prepare()
        contents = contents_of(self._job, self._files, found, paths, names, self.notes)
        hashes = hashing_.checked()
        digest = self._digest(hashes, known)
        return self._outcome(contents, packer, hashes, digest)

    def _paths(self) -> dict[UUID, Path]:
        storage = self._services.storage
        try:
            return {
                file.id: self._stack.enter_context(storage.local_path(file.bucket, file.key))
                for file in self._files
            }
        except ObjectNotFound:
            blame_removal(storage, self._files)
            raise

    def _digest(self, hashes: dict[UUID, str], known: Known) -> str:
        digest = self._study.digest or digest_of(self._files, hashes)
        if self._study.digest is None and not self._study.duplicate and (other := known(digest)):
            raise UnusableFiles(f"these files are study {other} already")
        return digest

    def _outcome(self, contents: Contents, packer: "_Dicom", hashes: dict[UUID, str], digest: str) -> Outcome:
        job, notes = self._job, self.notes
        contents.sources[:] = told_slides(job, contents.sources)
        dicom_sources = [source for source in contents.sources if is_dicom(source)]
        if dicom_sources:
            job.progress(f"reading {len(dicom_sources)} images", 3)
        dicom = read_dicom(dicom_sources, contents.headers, notes, released=job.released)
        decision = self._decided(contents, dicom)
        pseudonym = self._pseudonym(dicom)
        packer.begin(dicom.unique, pseudonym)
        made = self._make(decision, dicom, contents)
        packed = packer.series()
        packer.drop(contents)
        if decision.kind == "slide" and any(is_dicom(source) for source in decision.sources):
            made.files += make_dicom_slide(job, packed)
        patient = patient_of([image for one in packed for image in one.images], pseudonym)
        job.progress("storing", 9)
        rows = [store_file(self.place, file, order) for order, file in enumerate(made.files)]
        if job.settings.keep_originals:
            rows += [
                keep_original(self.place, file, hashes[file.id], order)
                for order, file in enumerate(self._files, len(rows))
            ]
        series = packer.rows(made.reasons)
        assert decision.kind is not None, "decided by now"
        details: dict[str, Any] = {"kind_source": decision.source, **notes.as_details()}
        details["modalities"] = sorted({file.modality for file in made.files if file.modality})
        return Outcome(decision.kind, details, rows, series, patient, hashes, digest)

    @property
    def place(self) -> Place:
        """Where the study's objects go."""
        return Place(self._services.storage, self._names, self._study.tenant_id, self._study.id)

    def packing(self) -> Packing:
        """A process that packs, for as long as this runs."""
        return self._stack.enter_context(Packing(self._job, pseudonym_secret(self._services)))

    def _decided(self, contents: Contents, dicom: DicomFiles) -> Decision:
        """The kind; where only voxels tell, by the voxels."""
        decision = decide(self._study.kind, contents.sources, dicom, self.notes)  # type: ignore[arg-type]
        if decision.kind is not None:
            return decision
        kind = self._kind_by_content(decision.sources)
        self.notes.warnings.append(
            f"nothing but the values of its voxels says that this is {'a CT' if kind == 'ct' else 'an MRI'}; "
            "send the kind with the study to be sure"
        )
        return Decision(kind, "content", decision.sources)

    def _kind_by_content(self, sources: list[Source]) -> Kind:
        """CT where a volume has Hounsfield units."""
        for number, source in enumerate(sources):
            path, info = stored(self._job, source, f"look-{number}.nii.gz")
            path.unlink()
            if looks_like_ct(info):
                return "ct"
        return "brain-mri"

    def _pseudonym(self, dicom: DicomFiles) -> str:
        """What the patient is called: as given, else derived from the Patient ID, else as generated."""
        study = self._study
        if not dicom.images:
            return study.patient_id
        pseudonyms = Pseudonyms(pseudonym_secret(self._services), study.tenant_id)
        derived = pseudonym_of(dicom.images, pseudonyms)
        return derived if derived and study.patient_id_source != "given" else study.patient_id

    def _make(self, decision: Decision, dicom: DicomFiles, contents: Contents) -> _Made:
        job, notes = self._job, self.notes
        kind, sources = decision.kind, decision.sources
        images = _of_kind(dicom.images, kind)
        if kind == "ct":
            return _Made(*make_ct(job, sources, images, notes))
        if kind == "brain-mri":
            return _Made(*make_brain_mri(job, sources, images, notes))
        if kind == "oct":
            return _Made(make_oct(job, sources, _of_kind(dicom.unique, kind)))
        if images:  # a DICOM slide is made once its files are clean
            return _Made()
        return _Made(make_slide(job, sources, contents))


class _Dicom:
    """The DICOM images of a study: de-identified, packed and stored beside everything else."""

    def __init__(self, intake: "_Intake", pool: ThreadPoolExecutor) -> None:
        self._intake = intake
        self._packing: Packing | None = None
        self._pool = pool
        self._packed: Future[tuple[PackedSeries, ...]] | None = None
        self._stored: Future[list[DicomSeries]] | None = None

    def begin(self, images: list[Instance], pseudonym: str) -> None:
        """Begin with these, if there are any."""
        if not images:
            return
        packing = self.prepare()
        packing.begin(images, pseudonym)
        self._packed = self._pool.submit(self._pack, packing)
        self._stored = self._pool.submit(self._store)

    def prepare(self) -> Packing:
        """Let the process load its libraries."""
        if self._packing is None:
            self._packing = self._intake.packing()
        return self._packing

    def series(self) -> tuple[PackedSeries, ...]:
        """What was packed, once it is."""
        return self._packed.result() if self._packed else ()

    def rows(self, reasons: Reasons) -> list[DicomSeries]:
        """The rows of the series, once their objects are stored."""
        rows = self._stored.result() if self._stored else []
        for one, row in zip(self.series(), rows, strict=True):
            original = one.images[0].instance.series_uid
            row.chosen, row.reason = reasons.get(original, (False, None))
        return rows

    def drop(self, contents: Contents) -> None:
        """Remove the images of archives, which nobody reads any more, beside everything else."""
        paths = [source.path for source in contents.sources if source.packed and is_dicom(source)]
        self._pool.submit(_remove, paths)

    def _pack(self, packing: Packing) -> tuple[PackedSeries, ...]:
        return series_of(packing, packing.packed(self._intake.notes))

    def _store(self) -> list[DicomSeries]:
        return [store_series(self._intake.place, one) for one in self.series()]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def _of_kind(images: list[Instance], kind: Kind | None) -> list[Instance]:
    return [image for image in images if KINDS.get(image.modality) == kind]


def accept(unit: UnitOfWork, study_id: UUID, outcome: Outcome) -> None:
    """The study can be analysed. Announced once, also when a second event of the upload is under way."""
    repository = IngestRepository(unit.session)
    study = repository.lock_receiving(study_id)
    if study is None:
        return
    patient, names = outcome.patient, unit.services.once(name_ring)
    if patient is not None:
        if study.patient_id_source == "generated" and patient.pseudonym != study.patient_id:
            study.patient_id, study.patient_id_source = patient.pseudonym, "dicom"
        if study.patient_name_sealed is None and patient.name:
            study.patient_name_sealed = names.seal(patient.name, study.id)
        study.scan_date = study.scan_date or patient.scan_date
    study.kind, study.details, study.digest = outcome.kind, outcome.details, outcome.digest
    repository.mark_ingested(study, outcome.files, outcome.series, outcome.hashes)
    unit.emit(StudyIngested(study_id=study.id, kind=outcome.kind))


def reject(unit: UnitOfWork, study: Study, reason: str) -> None:
    """Refuse the study; `forget` follows by its event and leaves nothing of the files."""
    if IngestRepository(unit.session).mark_rejected(study.id, reason):
        unit.emit(StudyRejected(study_id=study.id, kind=study.kind, reason=reason))


def hold(unit: UnitOfWork, study: Study, held: Held) -> None:
    """Keep the study as it is until a person has looked at its images."""
    IngestRepository(unit.session).mark_held(study.id, held.codes, held.message)


def forget_received(unit: UnitOfWork, study_id: UUID) -> None:
    """Delete what was received of a study that is not being received any more: objects first, then rows."""
    files = IngestRepository(unit.session).spent(study_id)
    incoming = [file.key for file in files if file.bucket == "incoming"]
    remove_taken(unit.services, unit.tenant_id, study_id, incoming)
    for file in files:
        if file.bucket != "incoming":
            unit.storage.delete(file.bucket, file.key)
        unit.session.delete(file)


def forget(unit: UnitOfWork, study_id: UUID) -> None:
    """Delete every object of a study."""
    forget_received(unit, study_id)
    unit.storage.delete_prefix("studies", f"{unit.tenant_id}/{study_id}/")
