"""Arrays survive the way through JSON exactly; what does not fit is refused, not bent."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shared.oip.errors import InvalidTensor
from shared.oip.tensors import DTYPES, request_input, response_output, to_array
from shared.oip.types import RequestInput, ResponseOutput

Numbers = NDArray[np.generic]


def finite_arrays() -> st.SearchStrategy[Numbers]:
    def arrays(dtype: type[np.generic]) -> st.SearchStrategy[Numbers]:
        kind = np.dtype(dtype).kind
        elements = {"allow_nan": False, "allow_infinity": False} if kind == "f" else None
        return hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=elements)

    return st.sampled_from(sorted(DTYPES.values(), key=str)).flatmap(arrays)


@given(finite_arrays())
@example(np.array([1, 2**63], dtype=np.uint64))
@example(np.zeros((2, 0), dtype=np.uint8))
def test_every_number_comes_back_bit_for_bit_through_json(array: Numbers) -> None:
    body = response_output("x", array).model_dump_json()
    again = to_array(ResponseOutput.model_validate_json(body))
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    np.testing.assert_array_equal(again, array)


def test_data_may_be_nested_as_the_shape_is() -> None:
    tensor = RequestInput(name="x", datatype="FP32", shape=[2, 2], data=[[1, 2], [3, 4]])
    np.testing.assert_array_equal(to_array(tensor), np.array([[1, 2], [3, 4]], dtype=np.float32))


def test_an_array_in_fortran_order_travels_row_major() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert request_input("x", array).data == [0, 1, 2, 3, 4, 5]


def test_an_array_in_foreign_byte_order_keeps_its_values() -> None:
    tensor = request_input("x", np.array([1.5, 2.5], dtype=">f4"))
    assert (tensor.datatype, tensor.data) == ("FP32", [1.5, 2.5])


def test_strings_travel_as_bytes() -> None:
    tensor = request_input("x", np.array(["räumlich", b"plain"], dtype=object))
    assert (tensor.datatype, tensor.data) == ("BYTES", ["räumlich", "plain"])
    assert to_array(tensor).tolist() == ["räumlich", "plain"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_before_it_is_sent(value: float) -> None:
    with pytest.raises(InvalidTensor, match="NaN"):
        request_input("x", np.array([value], dtype=np.float32))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "reason"),
    [
        ("FP32", [3], [1.0, 2.0], "needs 3 values, data has 2"),
        ("FP32", [4], [[1.0, 2.0], [3.0, 4.0]], "nested"),
        ("FP32", [2], [[1.0, 2.0], [3.0]], "nested unevenly"),
        ("FP32", [1], ["1.0"], "not FP32"),
        ("FP32", [1], [1e39], "too large"),
        ("FP32", [1], [None], "not FP32"),
        ("UINT8", [1], [256], "from 0 to 255"),
        ("UINT8", [1], [-1], "from 0 to 255"),
        ("UINT64", [1], [2**64], "from 0 to"),
        ("UINT64", [2], [1, 2.5], "not UINT64"),
        ("UINT8", [1], [1.5], "not UINT8"),
        ("INT64", [1], [True], "not INT64"),
        ("BOOL", [1], [1], "not BOOL"),
        ("FP16", [1], [1.0], "unknown datatype"),
        ("BYTES", [1], [7], "not a string"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(
    datatype: str, shape: list[int], data: list[object], reason: str
) -> None:
    with pytest.raises(InvalidTensor, match=reason):
        to_array(RequestInput(name="x", datatype=datatype, shape=shape, data=data))


def test_nan_in_json_is_refused() -> None:
    body = json.loads('{"name": "x", "datatype": "FP32", "shape": [1], "data": [NaN]}')
    with pytest.raises(InvalidTensor, match="NaN"):
        to_array(RequestInput.model_validate(body))


def test_a_complex_array_has_no_datatype() -> None:
    with pytest.raises(InvalidTensor, match="complex64"):
        request_input("x", np.array([1j], dtype=np.complex64))
