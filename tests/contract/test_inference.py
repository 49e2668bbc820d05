"""The inference function without a model server: what users see when models are away, and that a replay mends it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from functions import inference, ingest, studies, upload
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from tests.contract.test_brain_upload import Clinic, LogIn, compressed, nifti

SECONDS = 30


@pytest.fixture
def bus(services: Services) -> Iterator[PostgresBus]:
    services.settings.model_url = "http://127.0.0.1:9"
    services.settings.patience_seconds = 0
    bus = PostgresBus(services.database)
    consumers = [bus.consumer(function, services) for function in (ingest.function, inference.function)]
    for consumer in consumers:
        consumer.start()
    yield bus
    for consumer in consumers:
        consumer.stop(SECONDS)


@pytest.fixture
def clinic(client_for: Any, register_and_login: LogIn) -> Clinic:
    client: TestClient = client_for(upload.function, studies.function)
    return Clinic(client, register_and_login(client, "dr-waiting"))


def wait_for_state(clinic: Clinic, study_id: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        study: dict[str, Any] = clinic.get(f"scans/{study_id}").json()
        if (study["task"] or {}).get("state") == state:
            return study
        assert time.monotonic() < deadline, study
        time.sleep(0.05)


def test_a_task_whose_models_stay_away_fails_and_says_why(bus: PostgresBus, clinic: Clinic) -> None:
    sent = clinic.send(("a_flair.nii.gz", compressed(nifti()))).json()
    study = wait_for_state(clinic, sent["id"], "FAILURE")
    assert study["status"] == "ingested"
    assert study["results"] is None
    assert study["message"].startswith("analysis failed: brain-tumor-detection: no connection")
    [letter] = bus.dead_letters.list()
    assert (letter.function, letter.type) == ("inference", "hounsfield.inference.requested")


def test_a_replayed_task_runs_again(bus: PostgresBus, clinic: Clinic) -> None:
    sent = clinic.send(("a_flair.nii.gz", compressed(nifti()))).json()
    wait_for_state(clinic, sent["id"], "FAILURE")
    bus.dead_letters.replay(bus.dead_letters.list()[0].id)
    study = wait_for_state(clinic, sent["id"], "STARTED")
    assert (study["status"], study["message"]) == ("processing", None)
    assert wait_for_state(clinic, sent["id"], "FAILURE")["task"]["completed_at"]
    assert len(bus.dead_letters.list()) == 1
