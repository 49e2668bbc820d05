"""Where things are under DICOMweb."""

from shared.runtime import Services

_LEVELS = ("studies", "series", "instances")


def study_url(services: Services, *uids: str) -> str:
    """The URL of a study, of a series in it, or of an instance in that."""
    path = "/".join(f"{level}/{uid}" for level, uid in zip(_LEVELS, uids, strict=False))
    return f"{services.settings.base_url}/api/dicom-web/{path}"
