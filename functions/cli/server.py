"""What the commands that talk to a running Hounsfield have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from shared.client import Client

Url = Annotated[str, typer.Option(envvar="HOUNSFIELD_URL", help="where Hounsfield answers")]
Token = Annotated[
    str | None,
    typer.Option(envvar="HOUNSFIELD_TOKEN", help="API key or access token; without one, log in"),
]
User = Annotated[str | None, typer.Option(envvar="HOUNSFIELD_USER", help="e-mail or username to log in with")]
Password = Annotated[str | None, typer.Option(envvar="HOUNSFIELD_PASSWORD", help="asked for when not given")]
CaFile = Annotated[
    Path | None, typer.Option(envvar="HOUNSFIELD_CA_FILE", help="certificates that sign the server's, PEM")
]


@contextmanager
def connect(
    url: str, token: str | None, user: str | None, password: str | None, ca_file: Path | None
) -> Iterator[Client]:
    """A client that is logged in; asks for what is missing. Raises CallFailed."""
    with Client(url, token, ca_file) as client:
        if not token:
            name = user or typer.prompt("E-mail or username")
            client.login(name, password or typer.prompt("Password", hide_input=True))
        yield client
