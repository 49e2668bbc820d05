"""Uploads to one machine: the storage routes and their peer, each a server in a process of its own."""

import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.upload.sending import GIB, KEY, send_all, sign_all
from functions.upload import storage_routes
from shared.config import Settings
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.http.server import make_server
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_storage
from shared.storage.port import Part
from shared.telemetry.logs import configure_logs

AIM_SECONDS, AIM_MB = 1.5, 100
IDLE_SECONDS = 3.0
Cost = dict[str, float]


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
        answers: dict[str, Callable[..., Any]] = {
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
