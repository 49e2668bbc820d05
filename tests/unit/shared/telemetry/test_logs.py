import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import structlog
from shared.telemetry.logs import configure_logs
from shared.telemetry.trace import traced

configure_logs("INFO", sys.argv[1])
log = structlog.get_logger("test")
with traced("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
    patient_name = "Ada Example"
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed", study_id="7")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_error_has_its_traceback_and_trace_id_but_no_local_variables(form: str) -> None:
    root = Path(__file__).resolve().parents[4]
    command = [sys.executable, "-c", SCRIPT, form]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stderr
    assert "ValueError: broken" in printed
    assert "0af7651916cd43dd8448eb211c80319c" in printed
    assert "Ada Example" not in printed.replace('patient_name = "Ada Example"', "")
    if form == "json":
        assert json.loads(printed)["study_id"] == "7"


def test_logging_is_left_alone_by_importing(caplog: pytest.LogCaptureFixture) -> None:
    from shared.telemetry import logs

    assert logs.configure_logs
    with caplog.at_level(logging.INFO):
        logging.getLogger("other").info("still here")
    assert "still here" in caplog.text
