"""What pynetdicom has to say, without what it quotes: identifiers of queries, values that it cannot read."""

import logging
import traceback
from pathlib import Path

import structlog
from pynetdicom import _config

log = structlog.get_logger(__name__)


class Discreet(logging.Handler):
    """Passes errors on by their kind and place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Most are of peers that break the rules; what our own answers raise is an error of ours."""
        where, kind = f"{record.module}:{record.lineno}", None
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0].__name__
            [*_, last] = traceback.extract_tb(record.exc_info[2])
            where = f"{Path(last.filename).name}:{last.lineno}"
        is_ours = record.name == "pynetdicom.service_class" and kind is not None
        log.log(logging.ERROR if is_ours else logging.INFO, "pynetdicom", where=where, error=kind)


def be_discreet() -> None:
    """Have no texts of pynetdicom's in the log."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logger = logging.getLogger("pynetdicom")
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.handlers = [Discreet()]
