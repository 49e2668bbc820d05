"""What an upload costs, on one machine and on S3, beside the plainest program that does the same.

    python -m benchmarks.upload [--gib N] [--part-mib N] [--senders N] [--runs N]
    python -m tests.e2e.ceph exec -- python -m benchmarks.upload       also against S3, with --s3 or HOUNSFIELD_TEST_S3

One machine: parts go to signed URLs of the folder store. The server is a process of its own with the real HTTP server,
the middleware of every deployment and the storage routes alone; starting and completing the upload are done in it too.
The peer is a Starlette application under uvicorn that writes `request.stream()` to files. CPU seconds (user and system)
are those of the server process, from /proc; memory is the growth of its peak over what it holds when idle. Runs
alternate, medians are compared. The aim is at most 1.5 CPU seconds per GiB and less than 100 MB.

S3: the same parts to URLs that the store signs, beside boto3's `upload_file` with the same part size and as many threads,
without checksums, which is its faster way. Runs alternate; the aim is a ratio of rates of at least 0.9, in the median of pairs of runs.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from boto3.s3.transfer import TransferConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.upload import storage_routes
from shared.config import Settings, load_settings
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.http.server import make_server
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_client, make_storage
from shared.storage.port import Part, Storage
from shared.storage.s3 import S3Storage
from shared.telemetry.logs import configure_logs
from tests.contract.test_storage import remove_buckets
from tests.e2e.ceph import s3_environment

AIM_SECONDS, AIM_MB, AIM_RATIO = 1.5, 100, 0.9
DAY = timedelta(days=1)
KEY = "benchmark/upload.bin"
MIB, GIB = 1 << 20, 1 << 30
IDLE_SECONDS = 3.0
Cost = dict[str, float]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=2.0, help="size of the upload to one machine")
    parser.add_argument("--s3-mib", type=int, default=256, help="size of the upload to S3")
    parser.add_argument("--part-mib", type=int, default=16)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3, help="of each kind; medians are compared")
    parser.add_argument(
        "--s3", default=os.environ.get("HOUNSFIELD_TEST_S3"), help="endpoint of an S3 service"
    )
    parser.add_argument("--folder", help="where to write; by default the system's folder for temporary files")
    options = parser.parse_args()
    part = os.urandom(options.part_mib * MIB)
    count = max(1, round(options.gib * GIB / len(part)))
    results: dict[str, Any] = {"local": local(part, count, options.senders, options.runs, options.folder)}
    if options.s3:
        parts = max(1, options.s3_mib // options.part_mib)
        results["s3"] = on_s3(options.s3, part, parts, options.senders, options.runs)
    else:
        print("S3         NOT MEASURED: give --s3, or run under `python -m tests.e2e.ceph exec --`")
    print(json.dumps(results))


# One machine


def local(part: bytes, count: int, senders: int, runs: int, folder: str | None) -> dict[str, Cost]:
    """Costs of the storage routes and of the peer, medians."""
    costs: dict[str, list[Cost]] = {"hounsfield": [], "starlette": []}
    for _ in range(runs):
        for name, serve in (("hounsfield", serve_storage), ("starlette", serve_plainly)):
            with tempfile.TemporaryDirectory(prefix="hounsfield-bench-", dir=folder) as data:
                costs[name].append(cost_of(serve, data, part, count, senders))
    medians = {
        name: {key: statistics.median(cost[key] for cost in several) for key in several[0]}
        for name, several in costs.items()
    }
    size = count * len(part) / GIB
    print(
        f"upload     {size:g} GiB in {count} parts by {senders} senders; medians of {runs} alternating runs"
    )
    for name, cost in medians.items():
        each = ", ".join(f"{one['cpu']:.2f}" for one in costs[name])
        print(
            f"{name:<10} {cost['cpu']:.2f} CPU s/GiB (user {cost['user']:.2f}, system {cost['system']:.2f}; runs {each}), "
            f"{cost['rate']:.0f} MiB/s, memory +{cost['memory']:.0f} MB over {cost['idle_memory']:.0f} MB, "
            f"idle {cost['idle']:.3f} CPU s/s"
        )
    print(f"aim        at most {AIM_SECONDS} CPU s/GiB and less than {AIM_MB} MB of memory for hounsfield")
    return medians


Serve = Callable[[str, Connection], None]


def cost_of(serve: Serve, folder: str, part: bytes, count: int, senders: int) -> Cost:
    """One upload to a server in a process of its own."""
    with running(serve, folder) as (pid, ask):
        before = cpu_of(pid)
        time.sleep(IDLE_SECONDS)
        idle = sum(cpu_of(pid)) - sum(before)
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        idle_memory, before, started = memory_of(pid), cpu_of(pid), time.monotonic()
        urls: list[str] = ask(("start", len(part), count))
        ask(("complete", send_all(urls, lambda _: part, senders)))
        seconds, after, peak = time.monotonic() - started, cpu_of(pid), memory_of(pid)
    size = count * len(part) / GIB
    user, system = (late - early for late, early in zip(after, before, strict=True))
    return {
        "cpu": (user + system) / size,
        "user": user / size,
        "system": system / size,
        "rate": size * 1024 / seconds,
        "memory": (peak - idle_memory) / 1e6,
        "idle_memory": idle_memory / 1e6,
        "idle": idle / IDLE_SECONDS,
    }


def cpu_of(pid: int) -> tuple[float, float]:
    """User and system seconds of a process, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def memory_of(pid: int) -> int:
    """The peak of a process's resident memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


@contextmanager
def running(serve: Serve, folder: str) -> Iterator[tuple[int, Callable[[Any], Any]]]:
    """A server process: its id, and a function that has it do something."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, theirs))
    process.start()
    theirs.close()

    def ask(question: Any) -> Any:
        ours.send(question)
        return ours.recv()

    try:
        ours.recv()  # it is up
        assert process.pid is not None
        yield process.pid, ask
    finally:
        ours.close()
        process.join()


def serve_storage(folder: str, pipe: Connection) -> None:
    """The folder store behind its routes."""
    configure_logs("WARNING", "console")
    settings = Settings(data_dir=Path(folder))
    keys = KeyStore(settings)
    with listening() as (listener, url):
        storage = make_storage(settings, url, lambda: keys.secrets(storage_routes.SIGNING))
        services = Services(settings, Database("postgresql+psycopg2://nowhere"), storage)
        api = create_api([Function("storage", router=storage_routes.router)], services, {})
        upload_id = ""

        def start(part_bytes: int, count: int) -> list[str]:
            nonlocal upload_id
            upload_id = storage.start_multipart("incoming", KEY, part_bytes=part_bytes)
            return sign_all(storage, upload_id, count)

        def complete(parts: list[Part]) -> None:
            ref = storage.complete_multipart("incoming", KEY, upload_id, parts)
            assert ref.size == sum(part.size for part in parts)

        server = make_server(harden(api, services), settings)
        answer_until_closed(server, listener, pipe, {"start": start, "complete": complete})


def serve_plainly(folder: str, pipe: Connection) -> None:
    """The peer: each part into a file of its own, without signatures, checks, hashes or waiting for the disk."""

    async def write(request: Request) -> Response:
        with (Path(folder) / request.path_params["number"]).open("wb") as file:
            async for block in request.stream():
                file.write(block)
        return Response(headers={"ETag": '"none"'})

    with listening() as (listener, url):
        app = Starlette(routes=[Route("/{number}", write, methods=["PUT"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        answers = {
            "start": lambda _, count: [f"{url}/{number}" for number in range(1, count + 1)],
            "complete": lambda _: None,
        }
        answer_until_closed(server, listener, pipe, answers)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket on a free port of this machine, and its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def answer_until_closed(
    server: uvicorn.Server, listener: socket.socket, pipe: Connection, answers: dict[str, Callable[..., Any]]
) -> None:
    """Serve in a thread, and do what the pipe asks for until it closes."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http")
    thread.start()
    while not server.started:
        time.sleep(0.01)
    pipe.send("up")
    try:
        while True:
            name, *arguments = pipe.recv()
            pipe.send(answers[name](*arguments))
    except EOFError:
        server.should_exit = True
        thread.join()


# Clients


def sign_all(storage: Storage, upload_id: str, count: int) -> list[str]:
    """The URLs of all parts."""
    return [storage.sign_part("incoming", KEY, upload_id, number, DAY) for number in range(1, count + 1)]


def send_all(urls: Sequence[str], content: Callable[[int], bytes], senders: int) -> list[Part]:
    """PUT every part over `senders` connections; `content` gives the bytes of a part by its index."""
    local = threading.local()

    def send(index: int) -> Part:
        url = urlsplit(urls[index])
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection(url.netloc, timeout=300)
        body = content(index)
        local.connection.request("PUT", f"{url.path}?{url.query}", body=body)
        response = local.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"part {index + 1} answered {response.status}: {answer[:300]!r}")
        return Part(index + 1, response.headers["etag"], len(body))

    with ThreadPoolExecutor(senders) as pool:
        return list(pool.map(send, range(len(urls))))


# S3


def on_s3(endpoint: str, part: bytes, count: int, senders: int, runs: int) -> Cost:
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
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(-1, runs):  # the first of each only warms up
                for name, way in ways.items():
                    took = timed(way)
                    assert storage.head("incoming", KEY).size == size
                    storage.delete("incoming", KEY)
                    if number >= 0:
                        seconds[name].append(took)
    finally:
        remove_buckets(environment)
    rates = {name: size / MIB / statistics.median(several) for name, several in seconds.items()}
    ratios = [boto3 / ours for ours, boto3 in zip(seconds["signed"], seconds["boto3"], strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"S3         {size / MIB:g} MiB in {count} parts by {senders} senders; medians of {runs} alternating runs"
    )
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


if __name__ == "__main__":
    main()
