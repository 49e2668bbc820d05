"""The HTTP server of a process: uvicorn with deadlines, limits and, where there is a certificate, TLS."""

import ssl

from starlette.types import ASGIApp
from uvicorn import Server

from shared.config import Settings
from shared.errors import Conflict
from shared.http.protocol import Patience, PatientConfig

STOP_SECONDS = 5
"""How long a stop waits for requests that are being answered."""


def make_server(app: ASGIApp, settings: Settings) -> Server:
    """A server that is not running yet. Raises Conflict for a certificate or key that cannot be used."""
    config = PatientConfig(
        app,
        Patience.of(settings),
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
    return Server(config)
