"""Claim checks name objects of our three buckets and nothing else; results go to `studies` only."""

import pytest

from shared.errors import Invalid
from shared.oip.objects import (
    object_output,
    parse_object_uri,
    parse_output_prefix,
    read_object_output,
    read_volume_input,
    volume_input,
)
from shared.oip.types import RequestInput, ResponseOutput
from shared.storage.port import ObjectRef

REF = ObjectRef(bucket="studies", key="t/s/flair.nii.gz", size=7, sha256="ab" * 32)


def test_a_volume_input_names_its_object() -> None:
    tensor = volume_input("flair", REF)
    assert (tensor.datatype, tensor.shape, tensor.data) == (
        "BYTES",
        [1],
        ["object://studies/t/s/flair.nii.gz"],
    )
    assert read_volume_input(tensor) == ("studies", "t/s/flair.nii.gz")


def test_an_output_carries_its_whole_reference() -> None:
    assert read_object_output(object_output("label_map", REF)) == REF


@pytest.mark.parametrize(
    "data", [["plain text"], [7], ["{}"], ['{"bucket": "other", "key": "k", "size": 1}']]
)
def test_any_other_string_output_is_no_reference(data: list[object]) -> None:
    assert read_object_output(ResponseOutput(name="x", datatype="BYTES", shape=[1], data=data)) is None


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "s3://studies/key",
        "object://other/key",
        "object://studies",
        "object://studies/",
        "object:///key",
        "object://studies//etc/passwd",
        "object://studies/../incoming/key",
        "object://studies/a/./b",
        "object://studies/a/\0b",
        7,
        None,
    ],
)
def test_a_name_outside_the_buckets_is_refused(uri: object) -> None:
    with pytest.raises(Invalid):
        parse_object_uri(uri)


@pytest.mark.parametrize("bucket", ["incoming", "studies", "models"])
def test_every_bucket_can_be_read(bucket: str) -> None:
    assert parse_object_uri(f"object://{bucket}/a/b.nii.gz") == (bucket, "a/b.nii.gz")


def test_results_go_to_a_folder_of_studies() -> None:
    assert parse_output_prefix("object://studies/t/s/task/") == ("studies", "t/s/task/")


@pytest.mark.parametrize(
    "prefix",
    [
        None,
        "",
        "object://studies/",
        "object://studies/a",
        "object://incoming/a/",
        "object://models/a/",
        "object://studies/../a/",
    ],
)
def test_results_go_nowhere_else(prefix: object) -> None:
    with pytest.raises(Invalid):
        parse_output_prefix(prefix)


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [("FP32", [1], [1.0]), ("BYTES", [2], ["object://studies/a", "object://studies/b"]), ("BYTES", [1], [])],
)
def test_a_volume_input_is_one_name(datatype: str, shape: list[int], data: list[object]) -> None:
    with pytest.raises(Invalid):
        read_volume_input(RequestInput(name="x", datatype=datatype, shape=shape, data=data))
