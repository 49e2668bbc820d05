"""Everything on one machine: embedded PostgreSQL, folder store, Postgres bus, model server, all functions."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import structlog
import uvicorn

from functions import chores
from functions.auth.accounts.service import make_first_admin
from functions.auth.accounts.tenants import DEFAULT_TENANT, default_tenant
from functions.host import Host, load_functions
from functions.inference.models import model_client
from functions.ingest.objects.folder import watched
from functions.wiring import make_services
from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.errors import Conflict, Unavailable
from shared.http.server import make_server
from shared.oip.server_process import ModelServerProcess
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from shared.security.keys import key_store
from shared.storage.s3 import S3Storage
from shared.telemetry.logs import configure_logs

log = structlog.get_logger(__name__)


class LocalStack:
    """One running installation; `with LocalStack(settings) as stack:` serves at `stack.url` until the block ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._socket = socket.socket(
            socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_STREAM
        )
        self._server: uvicorn.Server | None = None

    def __enter__(self) -> "LocalStack":
        with ExitStack() as stack:
            stack.callback(self._socket.close)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.settings.base_url

    def wait(self) -> None:
        """Block until the server ends (by a signal or by `stop`)."""
        self._thread.join()

    def stop(self) -> None:
        """Let the server end; in-flight requests are answered first."""
        if self._server is not None:
            self._server.should_exit = True

    def _start(self, stack: ExitStack) -> None:
        settings = self.settings
        configure_logs(settings.log_level, settings.log_format)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_user_of(settings.data_dir))
        self._bind()
        settings = self.settings = self._with_models(stack)
        database_url = self._database_url(stack)
        upgrade(database_url)
        services = make_services(settings, database_url, self.url)
        stack.callback(services.close)
        services.once(key_store).complete()
        if isinstance(services.storage, S3Storage):
            services.storage.ensure_buckets(settings.cors_origins)
        if settings.admin_email and settings.admin_password:
            make_first_admin(services, settings.admin_email, settings.admin_password.get_secret_value())
        self._host(stack, services)

    def _bind(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self.settings.host, self.settings.port))
            # Now, so that a second `up` on this port fails before it starts anything.
            self._socket.listen()
        except OSError as error:
            raise Conflict(
                f"cannot listen on {self.settings.host}:{self.settings.port}: {error.strerror}"
            ) from error
        address, port = self._socket.getsockname()[:2]  # the port: which one, where a free one was asked for
        self.settings = self.settings.model_copy(update={"port": port})
        if self.settings.public_url is None and ip_address(address).is_unspecified:
            log.warning("mails will link to where nobody gets; set HOUNSFIELD_PUBLIC_URL", link=self.url)

    def _with_models(self, stack: ExitStack) -> Settings:
        """Start a model server unless one is configured; it gets ready while the rest starts."""
        if self.settings.model_url:
            return self.settings
        models = ModelServerProcess(self.settings, preload=True)
        models.launch()
        stack.callback(models.stop)
        return self.settings.model_copy(update={"model_url": models.url})

    def _database_url(self, stack: ExitStack) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        postgres = EmbeddedPostgres(self.settings.data_dir / "postgres")
        stack.callback(postgres.stop)
        return postgres.url

    def _host(self, stack: ExitStack, services: Services) -> None:
        bus = PostgresBus(services.database)
        readiness = {
            "database": services.database.check,
            "storage": services.storage.check,
            "models": services.once(model_client).ready,
        }
        functions = load_functions()
        host = Host(functions, services, bus, readiness)
        host.start()
        stack.callback(host.stop, services.settings.drain_seconds)
        stack.enter_context(chores.running(functions, services))
        services.once(default_tenant)
        stack.enter_context(watched(services, DEFAULT_TENANT))
        self._server = make_server(host.app, self.settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http"
        )
        self._thread.start()
        stack.callback(self._thread.join)
        stack.callback(self.stop)
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._server.started:
            raise Unavailable("the HTTP server did not start; its log says why")


@contextmanager
def only_user_of(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process alone. Raises Conflict when another one has it."""
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another hounsfield is running on {data_dir}; stop it or choose another --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
