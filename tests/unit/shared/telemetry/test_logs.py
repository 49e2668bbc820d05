import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from shared.telemetry.tracebacks import safe_traceback

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


QUERY = """
import logging
import sys
import structlog
from sqlalchemy import create_engine, text
from shared.telemetry.logs import configure_logs

configure_logs("INFO", sys.argv[1])
name = "JOHN" + " DOE"
with create_engine(sys.argv[2], hide_parameters=True).connect() as connection:
    connection.execute(text("create temporary table patients (name text unique, age int)"))
    connection.execute(text("insert into patients values (:name, 1)"), {"name": name})
    connection.commit()
    for statement in ("insert into patients values (:name, 2)", "select cast(:name as integer)"):
        try:
            try:
                connection.execute(text(statement), {"name": name})
            finally:
                connection.rollback()
        except Exception as error:
            structlog.get_logger("test").exception("it failed")
            logging.getLogger("foreign").error("it failed", exc_info=ExceptionGroup("two", [error]))
            try:
                raise RuntimeError("and then") from error
            except RuntimeError:
                structlog.get_logger("test").exception("it failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_a_database_quotes_is_not_logged(form: str, database_url: str) -> None:
    root = Path(__file__).resolve().parents[4]
    command = [sys.executable, "-c", QUERY, form, database_url]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stderr
    assert "JOHN DOE" not in printed
    assert "insert into" not in printed
    for told in ("UniqueViolation, SQLSTATE 23505", "InvalidTextRepresentation, SQLSTATE 22P02"):
        assert printed.count(told) == 2 * 3
    assert printed.count("RuntimeError: and then") == 2
    assert "do_execute" in printed


def test_what_pydantic_quotes_is_left_out_too() -> None:
    class Patient(BaseModel):
        age: int

    try:
        Patient.model_validate({"age": "JOHN DOE"})
    except ValidationError as error:
        told = safe_traceback((type(error), error, error.__traceback__))
    assert "age: int_parsing" in told
    assert "JOHN DOE" not in told.replace('{"age": "JOHN DOE"}', "")


def test_logging_is_left_alone_by_importing(caplog: pytest.LogCaptureFixture) -> None:
    from shared.telemetry import logs

    assert logs.configure_logs
    with caplog.at_level(logging.INFO):
        logging.getLogger("other").info("still here")
    assert "still here" in caplog.text
