"""What a slide is, from its study and file."""

from collections.abc import Mapping
from typing import Any

from functions.studies.files.service import url_of
from functions.studies.service import name_of
from functions.studies.slides.schemas import SlideOut
from shared.db.models import FileRole, Study
from shared.runtime import UnitOfWork
from shared.security.principal import Principal
from shared.security.sealing import name_ring


def slide_out(unit: UnitOfWork, viewer: Principal, study: Study) -> SlideOut:
    """The slide as its viewer sees it."""
    fields = {name: getattr(study, name) for name in SlideOut.model_fields if hasattr(study, name)}
    slides = [file for file in study.files if file.role == FileRole.SLIDE]
    files = slides or study.files  # before ingest, what was sent
    file = next(iter(files), None)
    filename = unit.services.once(name_ring).filename_if_possible(file) if file else None
    return SlideOut(
        **fields,
        **_facts(file.details if file else {}),
        name=name_of(unit, study) or _stem(filename),
        original_filename=filename,
        size=sum(one.size for one in files) if files else None,
        viewer_url=f"/api/viewer/{study.id}.dzi" if slides else None,
        thumbnail_url=f"/api/viewer/{study.id}/thumbnail" if slides else None,
        file_url=url_of(viewer, file) if file else None,
    )


def _facts(details: Mapping[str, Any]) -> dict[str, Any]:
    """What ingest wrote of the image."""
    levels = details.get("levels")
    return {
        "type": details.get("vendor"),
        "width": details.get("width"),
        "height": details.get("height"),
        "levels": len(levels) if isinstance(levels, list) else levels,
        "mpp": details.get("mpp"),
    }


def _stem(filename: str | None) -> str | None:
    return (filename.rpartition(".")[0] or filename) if filename else None
