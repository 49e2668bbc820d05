"""Volumes of claim-checked requests: read from and written to object storage, by way of a temporary file."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from shared.imaging.nifti import Limits, read_nifti, write_nifti
from shared.imaging.volume import Volume
from shared.oip.objects import parse_output_prefix, read_volume_input
from shared.oip.types import Tensor
from shared.storage.port import ObjectRef, Storage
from shared.storage.temporary import as_file

MEDIA_TYPE: Final = "application/gzip"
SUFFIX: Final = ".nii.gz"


class Volumes:
    """Reads input volumes and writes output volumes for one server process.

    storage: asked for at the first claim check, so that a server of tensor models needs none.
    """

    def __init__(self, storage: Callable[[], Storage], limits: Limits) -> None:
        self._storage = storage
        self._limits = limits

    def read(self, tensor: Tensor) -> Volume:
        """The volume that a request input names. Raises InvalidTensor, ObjectNotFound or a reader's error."""
        bucket, key = read_volume_input(tensor)
        with as_file(self._storage(), bucket, key) as path:
            return read_nifti(path, self._limits)

    def write(self, volume: Volume, output_prefix: object, name: str) -> ObjectRef:
        """Write `<output_prefix><name>.nii.gz`. Raises InvalidTensor for a prefix outside `studies`."""
        bucket, prefix = parse_output_prefix(output_prefix)
        with TemporaryDirectory(prefix="hounsfield-") as folder:
            path = Path(folder) / f"output{SUFFIX}"
            write_nifti(volume, path)
            with path.open("rb") as file:
                return self._storage().put(bucket, f"{prefix}{name}{SUFFIX}", file, MEDIA_TYPE)
