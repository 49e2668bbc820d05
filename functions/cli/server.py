"""What the commands that talk to a running Hounsfield have in common."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate

import typer

from shared.client import Client


@contextmanager
def connect(
    url: Annotated[
        str, typer.Option(envvar="HOUNSFIELD_URL", help="where Hounsfield answers")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(envvar="HOUNSFIELD_TOKEN", help="API key or access token; without one, log in"),
    ] = None,
    user: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_USER", help="e-mail or username to log in with")
    ] = None,
    password: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_PASSWORD", help="asked for when not given")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="HOUNSFIELD_CA_FILE", help="certificates that sign the server's, PEM"),
    ] = None,
) -> Iterator[Client]:
    """A client that is logged in; asks for what is missing. Raises CallFailed."""
    with Client(url, token, ca_file) as client:
        if not token:
            name = user or typer.prompt("E-mail or username")
            client.login(name, password or typer.prompt("Password", hide_input=True))
        yield client


def connected(command: Callable[Concatenate[Client, ...], None]) -> Callable[..., None]:
    """A command that is given a client first, and has the options of `connect` after its own."""
    signature, options = inspect.signature(command), inspect.signature(connect).parameters
    _, *own = signature.parameters.values()

    @wraps(command)
    def run(**given: Any) -> None:
        with connect(**{name: given.pop(name) for name in options}) as client:
            command(client, **given)

    vars(run)["__signature__"] = signature.replace(parameters=[*own, *options.values()])
    return run
