"""Uploads to an S3 service: parts that it signs, and boto3's own upload."""

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable

from boto3.s3.transfer import TransferConfig

from benchmarks.upload.sending import KEY, MIB, send_all, sign_all
from shared.config import load_settings
from shared.storage.factory import make_client, make_storage
from shared.storage.port import Storage
from shared.storage.s3 import S3Storage
from tests.contract.test_storage import remove_buckets
from tests.e2e.ceph import s3_environment

AIM_RATIO = 0.9


def on_s3(endpoint: str, part: bytes, count: int, senders: int, runs: int) -> dict[str, float]:
    """Rates in MiB/s of signed parts and of boto3's own upload, medians, and their ratio."""
    environment = s3_environment(endpoint, f"bench-{uuid.uuid4().hex[:8]}-")
    os.environ.update(environment)
    settings = load_settings()
    storage = make_storage(settings, "", b"unused")
    assert isinstance(storage, S3Storage)
    storage.ensure_buckets()
    client = make_client(settings, endpoint)
    bucket = environment["HOUNSFIELD_BUCKET_PREFIX"] + "incoming"
    size = len(part) * count
    transfer = TransferConfig(
        multipart_threshold=len(part), multipart_chunksize=len(part), max_concurrency=senders
    )
    try:
        with tempfile.NamedTemporaryFile(prefix="hounsfield-bench-") as file:
            for _ in range(count):
                file.write(part)
            file.flush()
            ways: dict[str, Callable[[], object]] = {
                "signed": lambda: send_signed(storage, file.fileno(), len(part), count, senders),
                "boto3": lambda: client.upload_file(file.name, bucket, KEY, Config=transfer),
            }
            seconds = alternating(ways, storage, size, runs)
    finally:
        remove_buckets(environment)
    return compared(seconds, f"{size / MIB:g} MiB in {count} parts by {senders} senders", size)


def alternating(
    ways: dict[str, Callable[[], object]], storage: Storage, size: int, runs: int
) -> dict[str, list[float]]:
    """Seconds of each run of each way to send `size` bytes; the first of each only warms up and is not among them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, runs):
        for name, way in ways.items():
            took = timed(way)
            assert storage.head("incoming", KEY).size == size
            storage.delete("incoming", KEY)
            if number >= 0:
                seconds[name].append(took)
    return seconds


def compared(seconds: dict[str, list[float]], what: str, size: int) -> dict[str, float]:
    """Print the figures, and return them."""
    rates = {name: size / MIB / statistics.median(several) for name, several in seconds.items()}
    ratios = [boto3 / ours for ours, boto3 in zip(seconds["signed"], seconds["boto3"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"S3         {what}; medians of {len(ratios)} alternating runs")
    print(
        f"rates      signed parts {rates['signed']:.0f} MiB/s, boto3 upload_file {rates['boto3']:.0f} MiB/s"
    )
    each = ", ".join(f"{one:.2f}" for one in ratios)
    print(f"ratio      {ratio:.2f}   (of pairs, median; each {each}; aim: at least {AIM_RATIO})")
    return {**rates, "ratio": ratio}


def send_signed(storage: Storage, file: int, part_bytes: int, count: int, senders: int) -> None:
    """What a client of ours does."""
    upload_id = storage.start_multipart("incoming", KEY, part_bytes=part_bytes)
    urls = sign_all(storage, upload_id, count)
    parts = send_all(urls, lambda index: os.pread(file, part_bytes, index * part_bytes), senders)
    storage.complete_multipart("incoming", KEY, upload_id, parts)


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
