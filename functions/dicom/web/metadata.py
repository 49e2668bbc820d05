"""All attributes of held images in the DICOM JSON model, large values by reference (PS3.18 §10.4.1.1.2)."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from functions.dicom.web.held_files import Held, read_held
from functions.dicom.web.json_model import encode
from functions.dicom.web.urls import study_url
from shared.imaging.dicom.instance import DEFLATED
from shared.runtime import Services
from shared.storage.port import Storage

INLINE_BYTES = 4096
"""Binary values above this come by reference."""
READERS = 8
_BATCH = 64
_PIXELS = 0x7FE00010
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def metadata(services: Services, files: Sequence[Held]) -> Iterator[bytes]:
    """One JSON array, in pieces."""
    separator = b"["
    with ThreadPoolExecutor(READERS, thread_name_prefix="metadata") as readers:
        rest = iter(files)
        while batch := list(islice(rest, _BATCH)):
            heads = readers.map(lambda held: read_head(services.storage, held), batch)
            for held, head in zip(batch, heads, strict=True):
                yield separator + encode(_described(services, held, head))
                separator = b","
    yield b"]" if separator == b"," else b"[]"


def read_head(storage: Storage, held: Held) -> FileDataset:
    """A file without its pixels."""
    instance, series = held
    if instance.transfer_syntax == DEFLATED:
        return dcmread(io.BytesIO(read_held(storage, held)))
    head = storage.read_range(series.bucket, series.key, instance.offset, instance.header_bytes)
    return dcmread(io.BytesIO(head), stop_before_pixels=True)


def _described(services: Services, held: Held, head: Dataset) -> dict[str, Any]:
    instance, series = held
    url = study_url(services, series.study_uid, series.series_uid, instance.sop_uid)
    found: dict[str, Any] = {}
    for element in head:
        key = f"{int(element.tag):08X}"
        if int(element.tag) == _PIXELS:
            continue
        if element.VR in _BINARY and len(element.value or b"") > INLINE_BYTES:
            found[key] = {"vr": element.VR, "BulkDataURI": f"{url}/bulkdata/{key}"}
        else:
            found[key] = element.to_json_dict(None, 1 << 62)
    if instance.rows is not None:
        found[f"{_PIXELS:08X}"] = {"vr": "OW", "BulkDataURI": f"{url}/bulkdata/{_PIXELS:08X}"}
    found["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax]}
    return dict(sorted(found.items()))
