"""`hounsfield dicom`: the DICOM node alone, for clusters."""

import signal
import threading
from typing import Annotated

import typer

from functions.cli.helpers import DataDir, open_services, out, require_database, settings_with

app = typer.Typer()
DEFAULT_PORT = 11112
"""Registered for DICOM; 104, the other one, asks for privileges."""


@app.command()
def dicom(
    data_dir: DataDir = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help=f"port, {DEFAULT_PORT} unless set [HOUNSFIELD_DICOM_PORT]"),
    ] = None,
) -> None:
    """Run the DICOM node (C-ECHO, C-STORE, C-FIND) until Ctrl-C. `hounsfield up` runs it too, where its port is set."""
    from functions.dicom.node.node import Node
    from shared.telemetry.logs import configure_logs

    settings = settings_with(data_dir=data_dir, dicom_port=port)
    if settings.dicom_port is None:
        settings = settings.model_copy(update={"dicom_port": DEFAULT_PORT})
    require_database(settings)
    configure_logs(settings.log_level, settings.log_format)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with open_services(settings) as services, Node(services) as node:
        out.print(f"DICOM node {settings.dicom_ae_title} at port {node.port}", highlight=False)
        over.wait()
