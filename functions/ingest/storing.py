"""What ingest made, put into the object store under keys that depend on nothing but the study: a run that is repeated
writes the same objects again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID, uuid5

from functions.ingest.made import MadeFile, PackedImage, PackedSeries
from shared.db.models import DicomInstance, DicomSeries, FileRole, StudyFile
from shared.security.sealing import NameRing
from shared.storage.port import ObjectRef, Storage

BUCKET: Final = "studies"
TAR = "application/x-tar"


@dataclass(frozen=True)
class Place:
    """Where a study's objects go, and how its files' names are sealed."""

    storage: Storage
    names: NameRing
    tenant_id: UUID
    study_id: UUID

    @property
    def prefix(self) -> str:
        """Of the keys of all objects of the study."""
        return f"{self.tenant_id}/{self.study_id}/"


def store_file(place: Place, made: MadeFile, order: int) -> StudyFile:
    """The object and the row of a file that was made. order: its place among the study's files."""
    ref = place.storage.adopt(BUCKET, place.prefix + made.key, made.path, made.media_type)
    row = _row(place, made.role, made.key, ref, made.filename, order)
    row.media_type, row.modality, row.details = made.media_type, made.modality, made.details
    return row


def keep_original(place: Place, file: StudyFile, sha256: str, order: int) -> StudyFile:
    """A copy of a file as it was sent, and its row."""
    key = f"original/{file.id}"
    ref = place.storage.copy(file.bucket, file.key, BUCKET, place.prefix + key)
    row = _row(place, FileRole.ORIGINAL, key, ref, place.names.filename(file), order)
    row.sha256, row.media_type, row.declared_modality = sha256, file.media_type, file.declared_modality
    return row


def store_series(place: Place, series: PackedSeries) -> DicomSeries:
    """The object and the rows of a DICOM series."""
    first = series.images[0]
    series_id = uuid5(place.study_id, f"series {first.packed.series_uid}")
    key = f"{place.prefix}dicom/{series_id}.tar"
    ref = place.storage.adopt(BUCKET, key, series.tar, TAR)
    return DicomSeries(
        id=series_id,
        tenant_id=place.tenant_id,
        study_id=place.study_id,
        study_uid=first.packed.study_uid,
        series_uid=first.packed.series_uid,
        modality=first.instance.modality,
        number=_whole(first.instance.series_number),
        study_date=day_of(first.packed.study_date),
        attributes=series.attributes,
        bucket=ref.bucket,
        key=ref.key,
        size=ref.size,
        instances=_instances(place, series_id, series.images),
    )


def _instances(place: Place, series_id: UUID, images: Sequence[PackedImage]) -> list[DicomInstance]:
    return [
        DicomInstance(
            id=uuid5(series_id, f"instance {one.packed.sop_uid}"),
            tenant_id=place.tenant_id,
            sop_class=one.packed.sop_class,
            sop_uid=one.packed.sop_uid,
            transfer_syntax=one.packed.transfer_syntax,
            number=_whole(one.instance.instance_number),
            rows=one.instance.pixels.rows if one.instance.pixels else None,
            columns=one.instance.pixels.columns if one.instance.pixels else None,
            bits_allocated=one.instance.pixels.bits_allocated if one.instance.pixels else None,
            frames=one.instance.pixels.frames if one.instance.pixels else 1,
            offset=one.packed.offset,
            size=one.packed.size,
            header_bytes=one.packed.header_bytes,
        )
        for one in images
    ]


def _row(place: Place, role: FileRole, key: str, ref: ObjectRef, filename: str, order: int) -> StudyFile:
    file_id = _ordered_id(place.study_id, key, order)
    return StudyFile(
        id=file_id,
        tenant_id=place.tenant_id,
        study_id=place.study_id,
        filename_sealed=place.names.seal(filename, file_id),
        bucket=ref.bucket,
        key=ref.key,
        size=ref.size,
        sha256=ref.sha256,
        role=role,
        details={},
    )


def _ordered_id(study_id: UUID, key: str, order: int) -> UUID:
    """The same for the same study and key, and sorted by `order`: a UUID version 7 of the study's moment."""
    made = bytearray(uuid5(study_id, f"file {key}").bytes)
    made[:6] = study_id.bytes[:6]
    made[6:8] = (0x7000 | min(order, 0xFFF)).to_bytes(2)
    return UUID(bytes=bytes(made))


def day_of(text: str) -> date | None:
    """A DICOM date; None for what is none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _whole(number: int | None) -> int | None:
    """A number as the database holds it."""
    return number if number is not None and abs(number) < 2**31 else None
