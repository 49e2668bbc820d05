"""The Open Inference Protocol v2 as the KServe adapter speaks it: a real server process with real networks."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from shared.config import Settings
from shared.imaging.nifti import Limits, read_nifti, write_nifti
from shared.imaging.volume import Volume
from shared.oip.client import OipClient, Value
from shared.oip.errors import ModelFailed, ModelRefused
from shared.oip.objects import volume_input
from shared.oip.server_process import ModelServerProcess
from shared.storage.factory import make_storage
from shared.storage.port import ObjectRef, Storage
from shared.telemetry.trace import new_traceparent, traced
from tests.model_packages import MODALITIES, detector, segmenter

PREFIX = "object://studies/t/s/task/"
AFFINE = np.array([[-1.0, 0, 0, 90], [0, -1.0, 0, 126], [0, 0, 1.0, -72], [0, 0, 0, 1]])
Store = Callable[[tuple[int, int, int]], dict[str, Value]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two versions of a quick segmentation, a slow one, one whose weights are altered, and a Keras detection."""
    folder = tmp_path_factory.mktemp("oip")
    catalogue = folder / "catalogue"
    segmenter(catalogue, version="1.9.0")
    segmenter(catalogue, version="1.10.0")
    segmenter(catalogue, name="slow-segmentation", widths=(8, 16, 32))
    segmenter(catalogue, name="broken-segmentation")
    detector(catalogue)
    return Settings(data_dir=folder / "data", catalogue_dir=catalogue, threads=1, log_format="console")


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[ModelServerProcess]:
    with ModelServerProcess(settings) as process:
        weights = settings.catalogue_dir / "broken-segmentation" / "1.0.0" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])  # after the start, which would have left it out
        yield process


@pytest.fixture(scope="module")
def http(server: ModelServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: ModelServerProcess) -> Iterator[OipClient]:
    with OipClient(server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def storage(settings: Settings) -> Storage:
    return make_storage(settings, "", b"secret")


@pytest.fixture(scope="module")
def study(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Stores four volumes of a shape and gives their references by modality."""
    path = tmp_path_factory.mktemp("study") / "scan.nii.gz"

    def store(shape: tuple[int, int, int]) -> dict[str, Value]:
        refs: dict[str, Value] = {}
        for seed, name in enumerate(MODALITIES):
            values = np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)
            values[: shape[0] // 2] = 0  # a scan without its skull is surrounded by zeros
            write_nifti(Volume(values, AFFINE), path)
            refs[name] = storage.put("studies", f"t/s/{name}-{shape[0]}.nii.gz", path.read_bytes())
        return refs

    return store


def test_the_server_is_live_and_ready(http: httpx.Client) -> None:
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}


def test_the_server_describes_itself(http: httpx.Client) -> None:
    assert http.get("/v2").json()["name"] == "kserve"


def test_models_are_listed_by_name_once(http: httpx.Client) -> None:
    names = http.get("/v2/models").json()["models"]
    assert sorted(names) == [
        "broken-segmentation",
        "slow-segmentation",
        "tiny-detection",
        "tiny-segmentation",
    ]


def test_metadata_comes_from_the_package(client: OipClient) -> None:
    described = client.metadata("tiny-segmentation")
    assert described.platform == "torch"
    assert sorted(described.versions or []) == ["1.10.0", "1.9.0"]
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in described.inputs] == [
        (name, "BYTES", [1]) for name in MODALITIES
    ]
    assert [tensor.name for tensor in described.outputs] == ["label_map"]
    assert client.metadata("tiny-segmentation", "1.9.0") == described


def test_a_lazy_model_is_ready_before_it_is_loaded(client: OipClient) -> None:
    assert client.model_ready("tiny-segmentation")
    assert client.model_ready("tiny-segmentation", "1.9.0")


@pytest.mark.parametrize(("version", "answers"), [(None, "1.10.0"), ("1.9.0", "1.9.0"), ("1.10.0", "1.10.0")])
def test_a_study_comes_back_as_a_label_map_by_the_version_asked_for(
    client: OipClient, study: Store, storage: Storage, tmp_path: Path, version: str | None, answers: str
) -> None:
    prefix = f"object://studies/t/s/{version}/"
    result = client.infer("tiny-segmentation", study((24, 20, 16)), version=version, output_prefix=prefix)
    assert (result.model_name, result.model_version) == ("tiny-segmentation", answers)
    ref = result.outputs["label_map"]
    assert isinstance(ref, ObjectRef)
    assert ref.uri == f"{prefix}label_map.nii.gz"
    assert storage.head("studies", ref.key).size == ref.size
    path = tmp_path / "label_map.nii.gz"
    path.write_bytes(storage.read("studies", ref.key))
    label_map = read_nifti(path, Limits(allow_constant=True))
    assert label_map.same_grid(Volume(np.zeros((24, 20, 16)), AFFINE))


def slices(count: int) -> np.ndarray:
    """(count, 120, 100) float32: noise in an ellipse, air around it."""
    rows, columns = np.indices((120, 100))
    head = ((rows - 60) / 50) ** 2 + ((columns - 50) / 40) ** 2 < 1
    return (np.random.default_rng(0).normal(300, 40, (count, 120, 100)) * head).astype(np.float32)


def test_slices_travel_as_tensors_and_come_back_as_probabilities(client: OipClient) -> None:
    result = client.infer("tiny-detection", {"image": slices(3)}, version="1.0.0")
    assert (result.model_name, result.model_version) == ("tiny-detection", "1.0.0")
    probabilities = result.outputs["probabilities"]
    assert isinstance(probabilities, np.ndarray)
    assert (probabilities.shape, probabilities.dtype) == ((3, 2), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_batch_answers_as_its_slices_do_one_by_one(client: OipClient) -> None:
    whole = client.infer("tiny-detection", {"image": slices(3)}).outputs["probabilities"]
    parts = [client.infer("tiny-detection", {"image": slices(3)[i : i + 1]}) for i in range(3)]
    alone = np.concatenate([np.asarray(part.outputs["probabilities"]) for part in parts])
    np.testing.assert_allclose(np.asarray(whole), alone, atol=1e-6)


def test_kserves_own_client_sends_and_receives_binary_numbers(
    server: ModelServerProcess, client: OipClient
) -> None:
    tensor = InferInput(name="image", datatype="FP32", shape=[2, 120, 100])
    tensor.set_data_from_numpy(slices(2), binary_data=True)
    request = InferRequest("tiny-detection", [tensor], parameters={"binary_data_output": True})

    async def ask() -> np.ndarray:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as kserve:
            answer = await kserve.infer(server.url, request, model_name="tiny-detection")
            return np.asarray(answer.outputs[0].as_numpy())

    ours = client.infer("tiny-detection", {"image": slices(2)}).outputs["probabilities"]
    np.testing.assert_array_equal(asyncio.run(ask()), np.asarray(ours))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"datatype": "FP32", "shape": [1, 9, 9], "data": [0.0] * 80}, "needs 81 values, data has 80"),
        ({"datatype": "FP64", "shape": [1, 9, 9], "data": [0.0] * 81}, "the model takes FP32"),
        ({"datatype": "FP32", "shape": [9, 9], "data": [0.0] * 81}, "the model takes [-1, -1, -1]"),
        ({"datatype": "FP32", "shape": [1, 9, 9], "data": ["0"] * 81}, "not FP32"),
        ({"datatype": "FP32", "shape": [1, 3, 3], "data": [0.0] * 9}, "8 pixels"),
        ({"datatype": "FP32", "shape": [1, 9, -9], "data": [0.0] * 81}, "shape"),
    ],
)
def test_a_tensor_that_the_model_cannot_take_is_refused_with_the_reason(
    http: httpx.Client, tensor: dict[str, object], reason: str
) -> None:
    body = {"inputs": [{"name": "image", **tensor}]}
    response = http.post("/v2/models/tiny-detection/infer", json=body)
    assert response.status_code == 400
    assert reason in response.json()["error"]


def test_versions_are_different_networks(client: OipClient, study: Store, storage: Storage) -> None:
    refs = []
    for version in ("1.9.0", "1.10.0"):
        prefix = f"object://studies/t/compare/{version}/"
        result = client.infer("tiny-segmentation", study((24, 20, 16)), version=version, output_prefix=prefix)
        refs.append(result.outputs["label_map"])
    first, second = refs
    assert isinstance(first, ObjectRef) and isinstance(second, ObjectRef)
    assert first.sha256 != second.sha256


@pytest.mark.parametrize("suffix", ["", "/ready", "/versions/1.0.0", "/versions/1.0.0/ready"])
def test_an_unknown_model_is_not_found(http: httpx.Client, suffix: str) -> None:
    response = http.get(f"/v2/models/nobody{suffix}")
    assert response.status_code == 404
    assert "nobody" in response.json()["error"]


@pytest.mark.parametrize("suffix", ["", "/ready"])
def test_an_unknown_version_is_not_found(http: httpx.Client, suffix: str) -> None:
    response = http.get(f"/v2/models/tiny-segmentation/versions/9.9.9{suffix}")
    assert response.status_code == 404
    assert "9.9.9" in response.json()["error"]


@pytest.mark.parametrize("path", ["nobody", "nobody/versions/1.0.0", "tiny-segmentation/versions/9.9.9"])
def test_inference_by_an_unknown_model_or_version_is_not_found(http: httpx.Client, path: str) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    assert http.post(f"/v2/models/{path}/infer", json=body).status_code == 404


def claim(name: str, uri: str) -> dict[str, object]:
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": [uri]}


@pytest.mark.parametrize("route", ["tiny-segmentation", "tiny-segmentation/versions/1.9.0"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "no Open Inference Protocol"),
        (b'{"inputs": 3}', "inputs: Input should be a valid list"),
        (b'{"inputs": [{"name": "t1"}]}', "inputs.0.shape: Field required"),
        (b'{"inputs": []}', "no Open Inference Protocol"),
    ],
)
def test_a_body_in_another_language_is_a_bad_request(
    http: httpx.Client, route: str, body: bytes, reason: str
) -> None:
    headers = {"content-type": "application/json"}
    response = http.post(f"/v2/models/{route}/infer", content=body, headers=headers)
    assert response.status_code == 400
    assert reason in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"inputs": [{}]}', b"\x00\x01"])
def test_a_binary_body_that_is_not_well_formed_is_a_bad_request(http: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(body))}
    response = http.post("/v2/models/tiny-segmentation/infer", content=body, headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("inputs", "parameters", "reason"),
    [
        (["t1", "t1ce", "t2"], {"output_prefix": PREFIX}, "takes the inputs t1, t1ce, t2, flair"),
        ([*MODALITIES, "t1"], {"output_prefix": PREFIX}, "each once"),
        (MODALITIES, {}, "output_prefix"),
        (MODALITIES, {"output_prefix": "object://models/tiny/"}, "output_prefix"),
        (MODALITIES, {"output_prefix": PREFIX}, "no object of that key"),
    ],
)
def test_a_request_that_the_model_cannot_take_is_refused_with_the_reason(
    http: httpx.Client, inputs: list[str], parameters: dict[str, str], reason: str
) -> None:
    body = {
        "inputs": [claim(name, "object://studies/nothing-here") for name in inputs],
        "parameters": parameters,
    }
    response = http.post("/v2/models/tiny-segmentation/infer", json=body)
    assert response.status_code == 400
    assert reason in response.json()["error"]


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/", "object://studies/../x"]
)
def test_nothing_outside_the_buckets_is_read(http: httpx.Client, uri: str) -> None:
    body = {"inputs": [claim(name, uri) for name in MODALITIES], "parameters": {"output_prefix": PREFIX}}
    assert http.post("/v2/models/tiny-segmentation/infer", json=body).status_code == 400


def test_what_the_predictor_refuses_is_the_callers_to_mend(client: OipClient, study: Store) -> None:
    inputs = study((24, 20, 16)) | {"t2": study((16, 20, 16))["t2"]}
    with pytest.raises(ModelRefused, match="t2 is not on the grid of t1"):
        client.infer("tiny-segmentation", inputs, output_prefix=PREFIX)


def test_a_model_that_does_not_load_fails_at_once_and_is_not_ready(client: OipClient, study: Store) -> None:
    with pytest.raises(ModelFailed, match="sha256"):
        client.infer("broken-segmentation", study((24, 20, 16)), output_prefix=PREFIX)
    assert not client.model_ready("broken-segmentation")
    assert client.ready()


def test_a_model_can_be_loaded_and_unloaded_and_still_answers(http: httpx.Client) -> None:
    assert http.post("/v2/repository/models/tiny-segmentation/load").json()["load"] is True
    assert http.post("/v2/repository/models/tiny-segmentation/unload").json()["unload"] is True
    assert http.get("/v2/models/tiny-segmentation/ready").status_code == 200
    assert http.post("/v2/repository/models/nobody/load").status_code in (404, 503)
    assert http.post("/v2/repository/models/nobody/unload").status_code == 404


def test_the_server_answers_while_a_model_computes(
    client: OipClient, http: httpx.Client, study: Store
) -> None:
    inputs = study((64, 64, 64))
    client.infer("slow-segmentation", study((24, 20, 16)), output_prefix=PREFIX)  # loads it
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        slow = pool.submit(client.infer, "slow-segmentation", inputs, output_prefix=PREFIX)
        delays = []
        while not slow.done():
            asked = time.monotonic()
            assert http.get("/v2/health/ready").status_code == 200
            delays.append(time.monotonic() - asked)
            time.sleep(0.05)
        slow.result()
    took = time.monotonic() - started
    assert took > 1, "the model is too quick to show anything"
    assert max(delays) < took / 2


def test_kserves_own_client_is_understood(server: ModelServerProcess, study: Store) -> None:
    tensors = [
        InferInput(name=name, datatype="BYTES", shape=[1], data=[ref.uri])
        for name, ref in study((24, 20, 16)).items()
        if isinstance(ref, ObjectRef)
    ]
    parameters = {"output_prefix": PREFIX}
    request = InferRequest("tiny-segmentation", tensors, request_id="77", parameters=parameters)

    async def ask() -> tuple[bool, bool, str, str]:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as kserve:
            live = await kserve.is_server_ready(server.url)
            ready = await kserve.is_model_ready(server.url, "tiny-segmentation")
            answer = await kserve.infer(server.url, request, model_name="tiny-segmentation")
            return live, ready, answer.id, answer.outputs[0].data[0]

    live, ready, id_, output = asyncio.run(ask())
    assert (live, ready, id_) == (True, True, "77")
    assert ObjectRef.model_validate_json(output).uri == f"{PREFIX}label_map.nii.gz"


def test_binary_tensors_are_understood(server: ModelServerProcess, study: Store) -> None:
    tensors = []
    for name, ref in study((24, 20, 16)).items():
        assert isinstance(ref, ObjectRef)
        tensor = InferInput(name=name, datatype="BYTES", shape=[1])
        tensor.set_data_from_numpy(np.array([ref.uri.encode()], dtype=object), binary_data=True)
        tensors.append(tensor)
    parameters = {"output_prefix": PREFIX, "binary_data_output": True}
    request = InferRequest("tiny-segmentation", tensors, parameters=parameters)

    async def ask() -> str:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as kserve:
            answer = await kserve.infer(server.url, request, model_name="tiny-segmentation")
            return str(answer.outputs[0].as_numpy()[0])

    assert ObjectRef.model_validate_json(asyncio.run(ask())).uri == f"{PREFIX}label_map.nii.gz"


def test_an_output_that_does_not_exist_is_refused(http: httpx.Client, study: Store) -> None:
    refs = study((24, 20, 16))
    body = {
        "inputs": [
            volume_input(name, ref).model_dump() for name, ref in refs.items() if isinstance(ref, ObjectRef)
        ],
        "outputs": [{"name": "heat_map"}],
        "parameters": {"output_prefix": PREFIX},
    }
    response = http.post("/v2/models/tiny-segmentation/infer", json=body)
    assert response.status_code == 400
    assert "heat_map" in response.json()["error"]


def test_metrics_are_served(http: httpx.Client, study: Store, client: OipClient) -> None:
    client.infer("tiny-segmentation", study((24, 20, 16)), output_prefix=PREFIX)
    assert 'request_predict_seconds_count{model_name="tiny-segmentation"}' in http.get("/metrics").text


def test_the_callers_trace_is_in_the_log(server: ModelServerProcess, client: OipClient, study: Store) -> None:
    with traced(new_traceparent()) as trace:
        client.infer("tiny-segmentation", study((24, 20, 16)), output_prefix=PREFIX)
    assert trace.split("-")[1] in server.log_file.read_text()


def test_nothing_that_a_caller_sent_is_in_the_log(server: ModelServerProcess, http: httpx.Client) -> None:
    body = {"inputs": [claim(name, "object://studies/MUSTERMANN") for name in MODALITIES]}
    http.post("/v2/models/tiny-segmentation/infer", json=body | {"parameters": {"output_prefix": PREFIX}})
    http.get("/v2/models/MUSTERMANN")
    assert "MUSTERMANN" not in server.log_file.read_text()
