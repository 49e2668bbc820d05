"""Brain MRI by one form, as `POST /process-mri` takes it."""

from collections.abc import Sequence

from functions.upload.brain_mri.sniff import require_nifti
from functions.upload.receiving import About, Incoming, Received, look_at, receive
from shared.errors import Invalid
from shared.intake import Patient
from shared.runtime import UnitOfWork
from shared.security.principal import Principal

MAX_MRI_FILES = 4


def receive_mri(
    unit: UnitOfWork, user: Principal, files: Sequence[Incoming], patient: Patient, *, duplicate: bool
) -> Received:
    """Store a brain MRI and announce it. Files that are known already are not stored again.

    Raises UnsupportedImage for a file that is not NIfTI, Invalid for none or more than four.
    """
    if not 1 <= len(files) <= MAX_MRI_FILES:
        raise Invalid(f"send 1 to {MAX_MRI_FILES} files (t1, t1ce, t2, flair), not {len(files)}")
    for number, file in enumerate(files, 1):
        require_nifti(file.stream, f"file {number}")
    looked = look_at(unit, files, "brain-mri")
    if len({file.sha256 for file in looked}) < len(looked):
        raise Invalid("two of the files have the same content; send each sequence once")
    return receive(unit, user.user_id, About("brain-mri", patient, duplicate=duplicate), looked)
