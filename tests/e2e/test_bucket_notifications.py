"""Ceph's own notices of objects that boto3 puts into the bucket: a study, and no call of the API."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from shared.imaging.modality import MODALITIES
from shared.imaging.synthetic import synthetic_study
from tests.conftest import open_folder
from tests.e2e.ceph import ACCESS_KEY, SECRET_KEY, Ceph
from tests.integration.installation import Installation

TOKEN = "a token/with: signs"
PREFIX = "noticed-"


def client(ceph: Ceph, service: str = "s3") -> Any:
    """What a hospital's program has: boto3 and nothing of ours."""
    return boto3.client(
        service,
        endpoint_url=ceph.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )


def command(installation: Installation, *words: str, **environment: str) -> str:
    """What a subcommand of `hounsfield` prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from functions.cli import main; main()", *words],
        env={**installation.environment, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def notify(ceph: Ceph, installation: Installation) -> str:
    """Passwords go to Ceph by HTTPS only, so that is how it is set up."""
    return command(
        installation,
        "buckets",
        "notify",
        "--url",
        f"http://127.0.0.1:{installation.port}/events",
        HOUNSFIELD_S3_ENDPOINT_URL=ceph.secure_endpoint,
        AWS_CA_BUNDLE=str(ceph.authority),
    )


@pytest.fixture(scope="module")
def running(ceph: Ceph) -> Iterator[Installation]:
    environment = {
        **ceph.environment(PREFIX),
        "HOUNSFIELD_EVENTS_TOKEN": TOKEN,
        "HOUNSFIELD_SETTLE_SECONDS": "600",
    }
    with open_folder() as folder, Installation(folder / "data", **environment) as installation:
        installation.start()
        installation.login()
        yield installation


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = synthetic_study(tmp_path_factory.mktemp("study"))
    return [made[name] for name in MODALITIES]


def all_studies(installation: Installation) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = installation.http.get("studies", params={"limit": 100}).json()["items"]
    return items


def wait_for(installation: Installation, count: int, seconds: float = 60) -> list[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while len(found := all_studies(installation)) < count:
        assert time.monotonic() < deadline, installation.log()[-3000:]
        time.sleep(0.2)
    return found


def keys_of(name: str, volumes: list[Path]) -> dict[str, Path]:
    return {f"default/brain-mri/{name}/{path.name}": path for path in volumes}


def ceph_record(ceph: Ceph, bucket: str, key: str, sequencer: str) -> dict[str, Any]:
    """A notice as Ceph sends it, made by hand."""
    head = client(ceph).head_object(Bucket=bucket, Key=key)
    return {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                "key": key,
                "size": head["ContentLength"],
                "eTag": head["ETag"].strip('"'),
                "versionId": "",
                "sequencer": sequencer,
            },
        },
    }


def test_what_boto3_puts_into_the_bucket_becomes_a_finished_study_once(
    ceph: Ceph, running: Installation, volumes: list[Path]
) -> None:
    assert "tells of new objects from now on" in notify(ceph, running)
    assert "told of new objects already" in notify(ceph, running)
    bucket, s3 = f"{PREFIX}incoming", client(ceph)
    keys = keys_of("Examples, Ada +1815 ü", volumes)
    for key, path in keys.items():
        s3.upload_file(str(path), bucket, key)
    [study] = wait_for(running, 1)
    records = [ceph_record(ceph, bucket, key, f"{number:016X}") for number, key in enumerate(keys)]
    s3.put_object(Bucket=bucket, Key=f"{next(iter(keys)).rpartition('/')[0]}/_COMPLETE", Body=b"")

    address = f"http://127.0.0.1:{running.port}/events"
    for _ in range(3):
        sent = httpx.post(address, auth=("anybody", TOKEN), json={"Records": records[::-1]}, trust_env=False)
        assert sent.status_code == 202
        assert sent.json()["accepted"] == 0
    done = running.wait(study["id"])
    assert done["status"] == "completed"
    assert {step["name"] for step in done["results"]["steps"]} >= {"detect", "segment", "measure"}
    for record in reversed(records):
        one = httpx.post(
            address, headers={"authorization": f"Bearer {TOKEN}"}, json={"Records": [record]}, trust_env=False
        )
        assert one.json()["accepted"] == 0
    assert len(all_studies(running)) == 1
    assert "Ada" not in running.log() and TOKEN not in running.log()
    deadline = time.monotonic() + 30
    while s3.list_objects_v2(Bucket=bucket, Prefix="default/").get("Contents"):
        assert time.monotonic() < deadline, "what was read is removed"
        time.sleep(0.5)


def test_ceph_tells_of_multipart_uploads_and_copies(
    ceph: Ceph, running: Installation, tmp_path: Path
) -> None:
    bucket, s3 = f"{PREFIX}incoming", client(ceph)
    before = len(all_studies(running))
    large = tmp_path / "large"
    large.write_bytes(os.urandom(20 << 20))
    s3.upload_file(str(large), bucket, "default/auto/no image.zip")
    wait_for(running, before + 1)
    s3.put_object(Bucket=bucket, Key="elsewhere/source", Body=b"no image either")
    s3.copy_object(
        Bucket=bucket, Key="default/oct/a & b.e2e", CopySource={"Bucket": bucket, "Key": "elsewhere/source"}
    )
    wait_for(running, before + 2)
    s3.delete_object(Bucket=bucket, Key="elsewhere/source")


def test_without_notices_the_sweep_finds_it(ceph: Ceph, volumes: list[Path]) -> None:
    environment = {**ceph.environment("unnoticed-"), "HOUNSFIELD_SETTLE_SECONDS": "600"}
    bucket, s3 = "unnoticed-incoming", client(ceph)
    with open_folder() as folder, Installation(folder / "data", **environment) as installation:
        installation.start()
        installation.login()
        keys = keys_of("swept", volumes)
        for key, path in keys.items():
            s3.upload_file(str(path), bucket, key)
        s3.put_object(Bucket=bucket, Key="default/brain-mri/swept/_COMPLETE", Body=b"")
        there = ["reconcile", "--data-dir", str(installation.data_dir)]
        assert "0 objects taken up, 0 known, 5 too young" in command(installation, *there)
        assert all_studies(installation) == []
        there += ["--older-than", "0"]
        assert "5 objects would be taken up" in command(installation, *there, "--dry-run")
        assert "5 objects taken up" in command(installation, *there)
        [study] = wait_for(installation, 1)
        assert "0 objects taken up" in command(installation, *there)
        assert installation.wait(study["id"])["status"] == "completed"
        assert len(all_studies(installation)) == 1


def test_a_folder_copied_into_the_watched_folder_goes_to_ceph(running: Installation, tmp_path: Path) -> None:
    made = synthetic_study(tmp_path, seed=1)
    volumes = [made[name] for name in MODALITIES]
    before = len(all_studies(running))
    sent = running.data_dir / "incoming" / "default" / "brain-mri" / "by hand"
    sent.mkdir()
    subprocess.run(["cp", *map(str, volumes), str(sent)], check=True)
    (sent / "_COMPLETE").touch()
    newest = wait_for(running, before + 1)[0]
    assert running.wait(newest["id"])["status"] == "completed"
    assert not sent.exists()
    assert len(all_studies(running)) == before + 1


def test_the_configuration_of_others_stays(ceph: Ceph, running: Installation) -> None:
    s3 = client(ceph)
    now = s3.get_bucket_notification_configuration(Bucket=f"{PREFIX}incoming")["TopicConfigurations"]
    other = {**now[0], "Id": "another", "Events": ["s3:ObjectRemoved:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=f"{PREFIX}incoming", NotificationConfiguration={"TopicConfigurations": [*now, other]}
    )
    notify(ceph, running)
    ids = [
        one["Id"]
        for one in s3.get_bucket_notification_configuration(Bucket=f"{PREFIX}incoming")["TopicConfigurations"]
    ]
    assert sorted(ids) == ["another", "hounsfield"]
    assert TOKEN not in json.dumps(ids)
