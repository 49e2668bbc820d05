"""De-identified DICOM images in storage and database, as ingest leaves them, without running it."""

import io
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from shared.db.models import DicomInstance, DicomSeries, Study, StudyStatus
from shared.ids import uuid7
from shared.imaging.dicom.attributes import describe
from shared.imaging.dicom.deidentify import Deidentifier
from shared.runtime.services import Services
from shared.security.principal import Principal

SECRET = bytes(range(32))


def hold(services: Services, owner: Principal, images: Sequence[Dataset], **of_study: Any) -> UUID:
    """A study of the owner's with these images, cleaned; of_study: values of its row."""
    study_id = uuid7()
    pseudonym = f"PAT-{study_id.hex[-8:]}"
    with services.database.tenant(owner.tenant_id) as session:
        values = {
            "kind": "ct",
            "status": StudyStatus.INGESTED,
            "patient_id": pseudonym,
            "digest": study_id.hex,
        }
        values |= {"owner_id": owner.user_id, "tenant_id": owner.tenant_id, "id": study_id, **of_study}
        session.add(Study(**values))
        session.flush()
        for files in _by_series(owner.tenant_id, images, pseudonym).values():
            session.add(put_series(services, owner.tenant_id, study_id, files))
    return study_id


def cleaned(tenant_id: UUID, image: Dataset, pseudonym: str = "PAT-2345") -> FileDataset:
    """What becomes of an image."""
    return dcmread(io.BytesIO(_clean(tenant_id, image, pseudonym)))


def _by_series(tenant_id: UUID, images: Sequence[Dataset], pseudonym: str) -> dict[UID, list[bytes]]:
    found = defaultdict(list)
    for image in images:
        found[image.SeriesInstanceUID].append(_clean(tenant_id, image, pseudonym))
    return found


def _clean(tenant_id: UUID, image: Dataset, pseudonym: str) -> bytes:
    target = io.BytesIO()
    Deidentifier(SECRET, tenant_id).clean_file(io.BytesIO(as_file(image)), target, pseudonym)
    return target.getvalue()


def as_file(image: Dataset) -> bytes:
    """An image as it is sent."""
    target = io.BytesIO()
    image.save_as(target, enforce_file_format=True)
    return target.getvalue()


def put_series(
    services: Services, tenant_id: UUID, study_id: UUID, files: Sequence[bytes], series_id: UUID | None = None
) -> DicomSeries:
    """The object of a series, stored, and its rows. files: of one series."""
    series_id = series_id or uuid7()
    tar, offsets = _tar(files)
    ref = services.storage.put("studies", f"{tenant_id}/{study_id}/dicom/{series_id}.tar", tar)
    headers = [dcmread(io.BytesIO(file)) for file in files]
    first = headers[0]
    return DicomSeries(
        id=series_id,
        tenant_id=tenant_id,
        study_id=study_id,
        study_uid=first.StudyInstanceUID,
        series_uid=first.SeriesInstanceUID,
        modality=first.Modality,
        number=first.get("SeriesNumber"),
        study_date=datetime.strptime(first.StudyDate, "%Y%m%d").date() if first.get("StudyDate") else None,
        attributes=describe(first),
        bucket=ref.bucket,
        key=ref.key,
        size=ref.size,
        instances=[
            _instance(tenant_id, header, file, offset)
            for header, file, offset in zip(headers, files, offsets, strict=True)
        ],
    )


def _instance(tenant_id: UUID, header: FileDataset, file: bytes, offset: int) -> DicomInstance:
    whole = header.file_meta.TransferSyntaxUID.is_deflated
    start = io.BytesIO(file)
    dcmread(start, stop_before_pixels=True)
    return DicomInstance(
        tenant_id=tenant_id,
        sop_class=header.SOPClassUID,
        sop_uid=header.SOPInstanceUID,
        transfer_syntax=header.file_meta.TransferSyntaxUID,
        number=header.get("InstanceNumber"),
        rows=header.get("Rows"),
        columns=header.get("Columns"),
        bits_allocated=header.get("BitsAllocated"),
        frames=int(header.get("NumberOfFrames") or 1),
        offset=offset,
        size=len(file),
        header_bytes=len(file) if whole else start.tell(),
    )


def _tar(files: Sequence[bytes]) -> tuple[bytes, list[int]]:
    target, offsets = io.BytesIO(), []
    with tarfile.open(fileobj=target, mode="w") as tar:
        for number, file in enumerate(files):
            member = tarfile.TarInfo(f"{number:06d}.dcm")
            member.size = len(file)
            offsets.append(target.tell() + 512)
            tar.addfile(member, io.BytesIO(file))
    return target.getvalue(), offsets
