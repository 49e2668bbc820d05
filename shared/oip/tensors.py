"""NumPy arrays to and from tensors in JSON. Values are checked, never clipped or wrapped."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.oip.errors import InvalidTensor
from shared.oip.types import RequestInput, ResponseOutput, Tensor

DTYPES: Final[dict[str, type[np.generic]]] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatypes that travel as JSON numbers. FP16 has no JSON form in the protocol; BYTES are strings."""
_DATATYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def request_input(name: str, array: NDArray[Any]) -> RequestInput:
    """An array of any shape as a request input. Raises InvalidTensor."""
    datatype, data = _encode(name, array)
    return RequestInput(name=name, datatype=datatype, shape=list(array.shape), data=data)


def response_output(name: str, array: NDArray[Any]) -> ResponseOutput:
    """An array of any shape as a response output. Raises InvalidTensor."""
    datatype, data = _encode(name, array)
    return ResponseOutput(name=name, datatype=datatype, shape=list(array.shape), data=data)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's values in its shape; strings as an object array of `str`. Raises InvalidTensor."""
    raw = _as_array(tensor)
    size = int(np.prod(tensor.shape, dtype=np.int64))
    if raw.size != size:
        raise InvalidTensor(f"{tensor.name}: shape {tensor.shape} needs {size} values, data has {raw.size}")
    if raw.ndim > 1 and list(raw.shape) != tensor.shape:
        raise InvalidTensor(
            f"{tensor.name}: data is nested as {list(raw.shape)}, not as shape {tensor.shape}"
        )
    values = _strings(tensor.name, raw) if tensor.datatype == "BYTES" else _numbers(tensor, raw)
    return values.reshape(tensor.shape)


def datatype_of(name: str, array: NDArray[Any]) -> str:
    """The protocol's name for the array's numbers. Raises InvalidTensor: no such datatype, NaN or infinity."""
    datatype = _DATATYPES.get(array.dtype.newbyteorder("="))
    if datatype is None:
        raise InvalidTensor(f"{name}: {array.dtype} has no datatype here; known: {', '.join(DTYPES)}, BYTES")
    _check_finite(name, array)
    return datatype


def _encode(name: str, array: NDArray[Any]) -> tuple[str, list[Any]]:
    if array.dtype.kind in "OUS":
        return "BYTES", _strings(name, array).ravel().tolist()
    return datatype_of(name, array), array.ravel().tolist()


def _as_array(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        return np.array(tensor.data, dtype=object)
    try:
        return np.asarray(tensor.data)
    except ValueError as error:
        raise InvalidTensor(f"{tensor.name}: data is nested unevenly") from error


def _numbers(tensor: Tensor, raw: NDArray[Any]) -> NDArray[Any]:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InvalidTensor(
            f"{tensor.name}: unknown datatype {tensor.datatype!r}; known: {', '.join(DTYPES)}, BYTES"
        )
    kind = np.dtype(dtype).kind
    if raw.size and kind in "iu":
        raw = _integers(tensor, raw, np.iinfo(np.dtype(dtype).name))
    elif raw.size and raw.dtype.kind not in {"b": "b", "f": "fiu"}[kind]:
        raise InvalidTensor(f"{tensor.name}: data holds values that are not {tensor.datatype}")
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which the next line refuses
        values = raw.astype(dtype)
    _check_finite(tensor.name, values)
    return values


def _integers(tensor: Tensor, raw: NDArray[Any], limits: np.iinfo[Any]) -> NDArray[Any]:
    """The same whole numbers, all within the datatype's limits."""
    if raw.dtype.kind not in "iu":  # NumPy makes floats of 1 beside 2**63, and objects of 2**64
        raw = np.array(tensor.data, dtype=object)
        if not all(type(item) is int for item in raw.flat):
            raise InvalidTensor(f"{tensor.name}: data holds values that are not {tensor.datatype}")
    if int(raw.min()) < limits.min or int(raw.max()) > limits.max:
        raise InvalidTensor(f"{tensor.name}: {tensor.datatype} values lie from {limits.min} to {limits.max}")
    return raw


def _check_finite(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidTensor(f"{name}: holds NaN, infinity, or a number too large for its datatype")


def _strings(name: str, array: NDArray[Any]) -> NDArray[Any]:
    try:
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidTensor(f"{name}: BYTES in JSON must be UTF-8 text") from error
    if not all(isinstance(text, str) for text in texts):
        raise InvalidTensor(f"{name}: BYTES holds something that is not a string")
    return np.array(texts, dtype=object).reshape(array.shape)
