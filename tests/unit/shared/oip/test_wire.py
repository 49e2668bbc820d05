import json

import numpy as np
import pytest

from shared.oip.errors import InvalidTensor
from shared.oip.wire import HEADER_LENGTH, encode
from shared.storage.port import ObjectRef

REF = ObjectRef(bucket="studies", key="t/flair.nii.gz", size=1)


def test_numbers_lie_behind_the_json_in_the_order_of_their_inputs() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2], dtype=">i2")
    body = encode({"a": a, "b": b}, request_id="7")
    length = int(body.headers[HEADER_LENGTH])
    described = json.loads(body.content[:length])
    assert [(one["datatype"], one["shape"]) for one in described["inputs"]] == [
        ("FP32", [2, 3]),
        ("INT16", [2]),
    ]
    assert described["id"] == "7"
    assert body.content[length:] == a.tobytes() + b"\x01\x00\x02\x00"


def test_a_transposed_array_is_sent_row_by_row() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    body = encode({"a": array})
    assert body.content.endswith(bytes([0, 3, 1, 4, 2, 5]))


def test_a_claim_check_alone_is_plain_json() -> None:
    body = encode({"flair": REF}, "object://studies/t/")
    assert HEADER_LENGTH not in body.headers
    assert json.loads(body.content)["parameters"] == {"output_prefix": "object://studies/t/"}


@pytest.mark.parametrize("array", [np.array([np.nan]), np.array([1j]), np.array([np.inf], np.float32)])
def test_what_the_protocol_has_no_number_for_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidTensor, match="a: "):
        encode({"a": array})
