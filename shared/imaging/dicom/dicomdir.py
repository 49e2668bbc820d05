"""What a DICOMDIR says that there should be. A hint only: files are found by their bytes, never by this list."""

from dataclasses import dataclass
from pathlib import Path

from shared.imaging.dicom.elements import Walker
from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.headers import opened
from shared.imaging.dicom.instance import BIG_ENDIAN, DIRECTORY, IMPLICIT
from shared.imaging.dicom.values import Values

_RECORDS, _TYPE, _INSTANCE = 0x00041220, 0x00041430, 0x00041511
MOST_RECORDS = 200_000


@dataclass(frozen=True)
class Directory:
    """How many records of each type there are, and the SOP Instance UIDs of the files that should be beside it."""

    records: dict[str, int]
    instances: frozenset[str]

    def missing(self, found: frozenset[str]) -> int:
        """How many of its files are not among the SOP Instance UIDs `found`."""
        return len(self.instances - found)


def read_dicomdir(path: Path) -> Directory:
    """The directory at `path`. Raises NotDicom or DamagedDicom; paths and names in it are not read."""
    with opened(path) as (data, start, syntax, meta):
        if meta.uid(0x00020002) != DIRECTORY:
            raise DamagedDicom("The file is no DICOMDIR.")
        wanted = {_RECORDS, _TYPE, _INSTANCE}
        walker = Walker(data, wanted, implicit=syntax == IMPLICIT, big=syntax == BIG_ENDIAN)
        records = Values.of(data, walker.data_set(start), syntax == BIG_ENDIAN).items(_RECORDS)
        if len(records) > MOST_RECORDS:
            raise DamagedDicom(f"The DICOMDIR has more than {MOST_RECORDS:,} records.")
        counts: dict[str, int] = {}
        for record in records:
            kind = record.text(_TYPE)[:16]
            counts[kind] = counts.get(kind, 0) + 1
        return Directory(counts, frozenset(uid for record in records if (uid := record.uid(_INSTANCE))))
