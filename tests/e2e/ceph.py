"""A real S3 service for tests: Ceph's RADOS gateway, one monitor, one object daemon in memory, on loopback.

    python -m tests.e2e.ceph install            Debian packages, as root
    python -m tests.e2e.ceph run DIR [PORT]     up in some 15 s; runs until interrupted
    python -m tests.e2e.ceph exec -- COMMAND    runs the command with HOUNSFIELD_TEST_S3 set, then stops Ceph

Tests use `running()`, which does the same as `run` and stops exactly the processes that it started.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.certificates import Authority

PACKAGES = ("ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "ceph-common")
ACCESS_KEY, SECRET_KEY = (
    "hounsfield-test",
    "hounsfield-test-secret",
)  # of a server that lives for one test run
READY_SECONDS = 120
STOP_SECONDS = 20

CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}/run
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
[mon.a]
mon data = {folder}/mon
host = localhost
[mgr.x]
mgr data = {folder}/mgr
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} \
ssl_certificate={folder}/tls/cert.pem ssl_private_key={folder}/tls/key.pem
rgw dns name = localhost
rgw enable apis = s3, admin, iam, sts, notifications
"""


@dataclass(frozen=True)
class Ceph:
    """A running gateway, for ACCESS_KEY and SECRET_KEY, signature v4, path-style addresses."""

    endpoint: str
    secure_endpoint: str
    """The same over TLS: Ceph takes passwords of whom it is to notify over nothing else."""
    authority: Path
    """Who issued its certificate, PEM."""

    def environment(self, bucket_prefix: str) -> dict[str, str]:
        """The variables that make Hounsfield use it, with buckets of its own."""
        return s3_environment(self.endpoint, bucket_prefix)


def s3_environment(endpoint: str, bucket_prefix: str) -> dict[str, str]:
    """The variables for an S3 service, with HOUNSFIELD_TEST_S3_{ACCESS,SECRET}_KEY or this module's keys."""
    return {
        "HOUNSFIELD_STORAGE_URL": "s3://",
        "HOUNSFIELD_S3_ENDPOINT_URL": endpoint,
        "HOUNSFIELD_S3_ACCESS_KEY": os.environ.get("HOUNSFIELD_TEST_S3_ACCESS_KEY", ACCESS_KEY),
        "HOUNSFIELD_S3_SECRET_KEY": os.environ.get("HOUNSFIELD_TEST_S3_SECRET_KEY", SECRET_KEY),
        "HOUNSFIELD_BUCKET_PREFIX": bucket_prefix,
    }


def installed() -> bool:
    """Whether the Debian packages are there."""
    return all(map(shutil.which, ("ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "radosgw-admin")))


def install() -> None:
    """Install the Debian packages; needs root."""
    if installed():
        print("Ceph is installed already.")
        return
    print(f"Installing Debian packages: {' '.join(PACKAGES)}", flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *command], check=True, env=quiet)


@contextmanager
def running(folder: Path, port: int | None = None) -> Iterator[Ceph]:
    """Ceph with its data under `folder`, which must be empty or new, on `port` or a free one."""
    port = port or _free_port()
    tls_port = _free_port()
    for name in ("mon", "mgr", "osd", "run", "log", "tls"):
        (folder / name).mkdir(parents=True)
    authority = Authority(folder / "tls")
    authority.issue("localhost")
    cluster = _Cluster(folder.resolve())
    with ExitStack() as daemons:
        cluster.configure(port, tls_port, _free_port())
        daemons.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        cluster.register()
        daemons.enter_context(cluster.daemon("ceph-mgr", "-i", "x"))
        daemons.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        gateway = daemons.enter_context(cluster.daemon("radosgw", "-n", "client.rgw"))
        endpoint = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(endpoint, gateway, folder / "log")
        cluster.create_user()
        yield Ceph(endpoint, f"https://localhost:{tls_port}", authority.file)


class _Cluster:
    """The steps that make a cluster out of an empty folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "ceph.conf"

    def configure(self, port: int, tls_port: int, mon_port: int) -> None:
        """Write configuration, keys and the monitor's store."""
        fsid = str(uuid.uuid4())
        self._config.write_text(
            CONFIG.format(fsid=fsid, folder=self._folder, port=port, tls_port=tls_port, mon_port=mon_port),
            encoding="utf-8",
        )
        keyring, monmap = f"{self._folder}/keyring", f"{self._folder}/monmap"
        _run(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        for name in ("client.admin", "client.rgw", "osd.0", "mgr.x"):
            caps = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
            _run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def register(self) -> None:
        """Make the keys known to the running monitor and prepare the object daemon's store."""
        wait = ("--connect-timeout", str(READY_SECONDS))
        self._tool("ceph", *wait, "auth", "import", "-i", f"{self._folder}/keyring")
        self._tool("ceph", *wait, "osd", "create")
        self._tool("ceph-osd", "-i", "0", "--mkfs")
        key = _run("ceph-authtool", f"{self._folder}/keyring", "-p", "-n", "osd.0").strip()
        (self._folder / "osd" / "keyring").write_text(f"[osd.0]\n\tkey = {key}\n")

    def create_user(self) -> None:
        """The one S3 user."""
        keys = ("--access-key", ACCESS_KEY, "--secret", SECRET_KEY)
        self._tool("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)

    @contextmanager
    def daemon(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A daemon in the foreground, stopped at the end, also when this process is killed.

        A session of its own keeps Ctrl-C from it, so that daemons end in order.
        """
        full = ["setpriv", "--pdeathsig", "TERM", *command, "-f", "-c", str(self._config)]
        with (self._folder / "log" / f"{command[0]}.out").open("wb") as output:
            process = subprocess.Popen(full, stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            _stop(process)

    def _tool(self, *command: str) -> str:
        return _run(*command, "-c", str(self._config))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_it_answers(endpoint: str, gateway: "subprocess.Popen[bytes]", logs: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise RuntimeError(f"the gateway ended with {gateway.returncode}; see {logs}")
        try:
            httpx.get(endpoint, trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.25)
    raise RuntimeError(f"the gateway did not answer within {READY_SECONDS} s; see {logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run_until_interrupted(folder: Path, port: int | None) -> int:
    with suppress(KeyboardInterrupt), running(folder, port) as ceph:
        print(f"S3 at {ceph.endpoint}, access key {ACCESS_KEY}, secret key {SECRET_KEY}", flush=True)
        signal.pause()
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run_command(command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, running(Path(folder)) as ceph:
        return subprocess.run(command, env=os.environ | {"HOUNSFIELD_TEST_S3": ceph.endpoint}).returncode


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.ceph", description="Ceph's S3 gateway for tests."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("install", help="install the Debian packages (root)")
    run = actions.add_parser("run", help="start Ceph and keep it up until interrupted")
    run.add_argument("folder", type=Path)
    run.add_argument("port", type=int, nargs="?")
    exec_ = actions.add_parser("exec", help="run a command beside Ceph")
    exec_.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    if arguments.action == "install":
        install()
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    if arguments.action == "run":
        return _run_until_interrupted(arguments.folder, arguments.port)
    return _run_command(arguments.command)


if __name__ == "__main__":
    sys.exit(main())
