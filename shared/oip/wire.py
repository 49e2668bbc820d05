"""The body of an inference request: JSON, with the numbers of arrays behind it in binary (OIP v2's binary data
extension). As JSON text a few slices would cost more time than their inference."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.oip.objects import OUTPUT_PREFIX, volume_input
from shared.oip.tensors import datatype_of, request_input
from shared.storage.port import ObjectRef

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Body:
    """What is sent, and the headers that say how to read it."""

    content: bytes
    headers: dict[str, str]


def encode(
    inputs: Mapping[str, NDArray[Any] | ObjectRef],
    output_prefix: str | None = None,
    request_id: str | None = None,
) -> Body:
    """The request's body. Numbers go as little-endian bytes, claim checks and strings in the JSON.

    Raises InvalidTensor for a dtype that the protocol does not know, NaN or infinity.
    """
    described, binary = [], []
    for name, value in inputs.items():
        if isinstance(value, ObjectRef):
            described.append(volume_input(name, value).model_dump(exclude_none=True))
        elif value.dtype.kind in "OUS":
            described.append(request_input(name, value).model_dump(exclude_none=True))
        else:
            datatype = datatype_of(name, value)
            binary.append(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
            size = {"binary_data_size": len(binary[-1])}
            described.append(
                {"name": name, "datatype": datatype, "shape": list(value.shape), "parameters": size}
            )
    request: dict[str, Any] = {"inputs": described}
    if request_id is not None:
        request["id"] = request_id
    if output_prefix is not None:
        request["parameters"] = {OUTPUT_PREFIX: output_prefix}
    header = json.dumps(request).encode()
    if not binary:
        return Body(header, {"content-type": "application/json"})
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Body(header + b"".join(binary), headers)
