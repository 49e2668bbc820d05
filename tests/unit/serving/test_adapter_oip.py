"""Requests to predictor inputs and outputs to answers, with a real network and a real folder store."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from serving.adapters.oip import (
    BrokenOutput,
    HostedModel,
    LoadFailed,
    decode_inputs,
    encode_outputs,
    metadata,
)
from serving.adapters.volumes import Volumes
from serving.predictors.base import InvalidInput
from serving.predictors.package import ModelManifest, TensorSpec, load_package
from shared.config import Settings
from shared.errors import Invalid
from shared.imaging.nifti import Limits, TooManyVoxels, read_nifti, write_nifti
from shared.imaging.volume import Volume
from shared.oip.objects import read_object_output, volume_input
from shared.oip.tensors import request_input
from shared.oip.types import InferenceRequest, RequestInput
from shared.storage.factory import make_storage
from shared.storage.port import ObjectNotFound, Storage
from tests.model_packages import MODALITIES, segmenter

PREFIX = "object://studies/t/s/task/"
OBLIQUE = np.array([[-0.9, 0.1, 0.0, 20.0], [0.1, 0.9, 0.2, -30.0], [0.0, -0.2, 1.5, 10.0], [0, 0, 0, 1]])


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return make_storage(settings, "", b"secret")


@pytest.fixture
def volumes(storage: Storage) -> Volumes:
    return Volumes(lambda: storage, Limits())


@pytest.fixture
def hosted(tmp_path: Path, volumes: Volumes) -> HostedModel:
    return HostedModel(load_package(segmenter(tmp_path / "catalogue")), volumes)


def scan(seed: int) -> Volume:
    """(20, 18, 12) float32 with a bright ball in it, a third of it empty."""
    grid = np.indices((20, 18, 12)) - np.array([10, 9, 6]).reshape(3, 1, 1, 1)
    ball = np.sqrt((grid**2).sum(axis=0)) < 5
    noise = np.random.default_rng(seed).normal(100, 5, ball.shape)
    return Volume(((noise + 50 * ball) * (np.abs(grid[0]) < 7)).astype(np.float32), OBLIQUE)


def store(storage: Storage, folder: Path, key: str, volume: Volume) -> RequestInput:
    path = folder / "scan.nii.gz"
    write_nifti(volume, path)
    return volume_input(Path(key).name, storage.put("studies", key, path.read_bytes()))


@pytest.fixture
def request_of_four(storage: Storage, tmp_path: Path) -> InferenceRequest:
    inputs = [store(storage, tmp_path, f"t/s/{name}", scan(seed)) for seed, name in enumerate(MODALITIES)]
    return InferenceRequest(id="42", inputs=inputs, parameters={"output_prefix": PREFIX})


def test_a_claim_checked_study_comes_back_as_a_label_map_on_its_own_grid(
    hosted: HostedModel, request_of_four: InferenceRequest, storage: Storage, tmp_path: Path
) -> None:
    response = hosted.infer(request_of_four)
    assert (response.id, response.model_name, response.model_version) == ("42", "tiny-segmentation", "1.0.0")
    ref = read_object_output(response.outputs[0])
    assert ref is not None
    assert (ref.bucket, ref.key) == ("studies", "t/s/task/label_map.nii.gz")
    path = tmp_path / "label_map.nii.gz"
    path.write_bytes(storage.read("studies", ref.key))
    label_map = read_nifti(path, Limits(allow_constant=True))
    assert label_map.data.dtype == np.uint8
    assert label_map.same_grid(scan(0), tolerance_mm=1e-3)


def test_the_same_request_writes_the_same_bytes(
    hosted: HostedModel, request_of_four: InferenceRequest
) -> None:
    assert hosted.infer(request_of_four).outputs == hosted.infer(request_of_four).outputs


def test_nothing_is_loaded_before_the_first_request(
    hosted: HostedModel, request_of_four: InferenceRequest
) -> None:
    assert not hosted.loaded
    hosted.infer(request_of_four)
    assert hosted.loaded
    hosted.unload()
    assert not hosted.loaded


def test_a_package_altered_after_the_start_is_not_loaded(
    tmp_path: Path, volumes: Volumes, request_of_four: InferenceRequest
) -> None:
    folder = segmenter(tmp_path / "catalogue")
    hosted = HostedModel(load_package(folder), volumes)
    weights = folder / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good + b"\0")
    with pytest.raises(LoadFailed, match="sha256"):
        hosted.infer(request_of_four)
    assert hosted.failure is not None
    weights.write_bytes(good)
    hosted.infer(request_of_four)
    assert hosted.failure is None


def test_an_object_that_is_not_there_is_said_so(
    hosted: HostedModel, request_of_four: InferenceRequest
) -> None:
    gone = RequestInput(name="t2", datatype="BYTES", shape=[1], data=["object://studies/t/s/gone"])
    inputs = [gone if tensor.name == "t2" else tensor for tensor in request_of_four.inputs]
    with pytest.raises(ObjectNotFound):
        hosted.infer(request_of_four.model_copy(update={"inputs": inputs}))


@pytest.mark.parametrize("prefix", [None, "object://incoming/x/", "object://studies/x"])
def test_a_volume_model_needs_a_place_for_its_results(
    hosted: HostedModel, request_of_four: InferenceRequest, prefix: str | None
) -> None:
    parameters = {} if prefix is None else {"output_prefix": prefix}
    with pytest.raises(Invalid, match="output_prefix"):
        hosted.infer(request_of_four.model_copy(update={"parameters": parameters}))
    assert not hosted.loaded


def test_metadata_is_the_manifest_in_the_protocols_words(hosted: HostedModel) -> None:
    described = metadata(hosted.manifest)
    assert (described.name, described.platform, described.versions) == (
        "tiny-segmentation",
        "torch",
        ["1.0.0"],
    )
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in described.inputs] == [
        (name, "BYTES", [1]) for name in MODALITIES
    ]


IMAGE = TensorSpec(name="image", datatype="FP32", shape=[-1, -1, 4])
SCORES = TensorSpec(name="probabilities", datatype="FP32", shape=[-1, 2])


@pytest.fixture
def tensor_model(hosted: HostedModel) -> ModelManifest:
    return hosted.manifest.model_copy(update={"inputs": [IMAGE], "outputs": [SCORES]})


def request(*inputs: RequestInput) -> InferenceRequest:
    return InferenceRequest(inputs=list(inputs))


def test_tensors_are_decoded_to_arrays(tensor_model: ModelManifest, volumes: Volumes) -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    inputs = decode_inputs(tensor_model, request(request_input("image", image)), volumes)
    assert inputs.keys() == {"image"}
    np.testing.assert_array_equal(np.asarray(inputs["image"]), image)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            {"picture": np.zeros((1, 1, 4), dtype=np.float32)},
            "takes the inputs image, each once; got picture",
        ),
        ({"image": np.zeros((1, 1, 4), dtype=np.float64)}, "datatype is 'FP64', the model takes FP32"),
        ({"image": np.zeros((1, 4), dtype=np.float32)}, r"shape is \[1, 4\], the model takes \[-1, -1, 4\]"),
        ({"image": np.zeros((1, 1, 5), dtype=np.float32)}, r"shape is \[1, 1, 5\]"),
    ],
)
def test_inputs_unlike_the_manifest_are_refused(
    tensor_model: ModelManifest, volumes: Volumes, inputs: Mapping[str, np.ndarray], reason: str
) -> None:
    tensors = [request_input(name, array) for name, array in inputs.items()]
    with pytest.raises(InvalidInput, match=reason):
        decode_inputs(tensor_model, request(*tensors), volumes)


def test_an_input_given_twice_is_refused(tensor_model: ModelManifest, volumes: Volumes) -> None:
    image = request_input("image", np.zeros((1, 1, 4), dtype=np.float32))
    with pytest.raises(InvalidInput, match="each once"):
        decode_inputs(tensor_model, request(image, image), volumes)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({}, "gave no tensor probabilities"),
        ({"probabilities": scan(0)}, "gave no tensor probabilities"),
        ({"probabilities": np.array([[np.nan, 1.0]], dtype=np.float32)}, "NaN"),
    ],
)
def test_outputs_unlike_the_manifest_are_the_models_fault(
    tensor_model: ModelManifest, volumes: Volumes, outputs: Mapping[str, np.ndarray | Volume], reason: str
) -> None:
    with pytest.raises(BrokenOutput, match=reason):
        encode_outputs(tensor_model, outputs, volumes, None)


def test_a_volume_over_the_limit_is_refused(
    tmp_path: Path, storage: Storage, request_of_four: InferenceRequest
) -> None:
    small = Volumes(lambda: storage, Limits(max_bytes=1000))
    hosted = HostedModel(load_package(segmenter(tmp_path / "catalogue")), small)
    with pytest.raises(TooManyVoxels):
        hosted.infer(request_of_four)
