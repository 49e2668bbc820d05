"""The HTTP server of a process: uvicorn with deadlines, limits and, where there is a certificate, TLS."""

import resource
import ssl

from starlette.types import ASGIApp
from uvicorn import Server

from shared.config import Settings
from shared.errors import Conflict
from shared.http.door import PatientServer
from shared.http.protocol import Patience, PatientConfig
from shared.http.room import OVERFLOW, Room

STOP_SECONDS = 5
"""How long a stop waits for requests that are being answered."""
OTHER_FILES = 256
"""Open files beside the connections of clients: uploads, the database, storage, models."""


def make_server(app: ASGIApp, settings: Settings) -> Server:
    """A server that is not running yet, for sockets that listen.

    Raises Conflict for a certificate or key that cannot be used, and for more connections than there can be open files.
    """
    _allow_files(settings.max_connections)
    config = PatientConfig(
        app,
        Patience.of(settings),
        Room(settings.max_connections, settings.trusted_proxies),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,  # uvicorn would believe every process of this machine; see TrustedProxies
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError too
        raise Conflict(
            f"HTTPS cannot be served with {settings.tls_cert_file} and {settings.tls_key_file}: "
            f"{error.strerror or error}"
        ) from error
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return PatientServer(config)


def _allow_files(connections: int) -> None:
    """Raise this process's limit of open files as far as is needed. Raises Conflict where that is not allowed."""
    needed = connections + OVERFLOW + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed <= soft or soft == resource.RLIM_INFINITY:
        return
    if needed > hard != resource.RLIM_INFINITY:
        raise Conflict(
            f"HOUNSFIELD_MAX_CONNECTIONS={connections} needs {needed} open files, and this process may have {hard}; "
            "lower it, or raise the limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
