"""Claim checks: a volume travels as the name of an object, not as numbers.

An input is `{"datatype": "BYTES", "shape": [1], "data": ["object://bucket/key"]}`; the request parameter
`output_prefix` says where results go; an output's one string is the JSON of its ObjectRef.
"""

from typing import Final

from pydantic import ValidationError

from shared.oip.errors import InvalidTensor
from shared.oip.types import RequestInput, ResponseOutput, Tensor
from shared.storage.keys import check_key
from shared.storage.port import BUCKETS, Bucket, ObjectRef

OUTPUT_PREFIX: Final = "output_prefix"
_SCHEME = "object://"


def volume_input(name: str, ref: ObjectRef) -> RequestInput:
    """A request input that names an object."""
    return RequestInput(name=name, datatype="BYTES", shape=[1], data=[ref.uri])


def object_output(name: str, ref: ObjectRef) -> ResponseOutput:
    """A response output that names an object."""
    return ResponseOutput(name=name, datatype="BYTES", shape=[1], data=[ref.model_dump_json()])


def read_object_output(output: Tensor) -> ObjectRef | None:
    """The reference that an output carries; None where it is any other tensor."""
    if output.datatype != "BYTES" or output.shape != [1] or len(output.data) != 1:
        return None
    try:
        return ObjectRef.model_validate_json(output.data[0])
    except ValidationError:
        return None


def read_volume_input(tensor: Tensor) -> tuple[Bucket, str]:
    """Bucket and key that a request input names. Raises InvalidTensor or Invalid."""
    if tensor.datatype != "BYTES" or tensor.shape != [1] or len(tensor.data) != 1:
        raise InvalidTensor(
            f"{tensor.name}: a volume travels as BYTES of shape [1] holding object://bucket/key"
        )
    return parse_object_uri(tensor.data[0])


def parse_object_uri(uri: object) -> tuple[Bucket, str]:
    """Bucket and key of `object://bucket/key`. Raises InvalidTensor for another form, Invalid for a bad key."""
    text = uri.decode(errors="replace") if isinstance(uri, bytes) else uri
    if not isinstance(text, str) or not text.startswith(_SCHEME):
        raise InvalidTensor("objects are named object://bucket/key")
    bucket, _, key = text.removeprefix(_SCHEME).partition("/")
    if bucket not in BUCKETS:
        raise InvalidTensor(f"no bucket {bucket!r}; known: {', '.join(BUCKETS)}")
    check_key(bucket, key)
    return bucket, key


def parse_output_prefix(uri: object) -> tuple[Bucket, str]:
    """Bucket and key prefix under which results are written: a folder of `studies`. Raises InvalidTensor or Invalid."""
    if not isinstance(uri, str) or not uri.startswith(f"{_SCHEME}studies/") or not uri.endswith("/"):
        raise InvalidTensor(f"parameter {OUTPUT_PREFIX} must name a folder of results: object://studies/…/")
    bucket, key = parse_object_uri(uri.removesuffix("/"))
    return bucket, f"{key}/"
