"""What the OpenAPI document says is what the running product answers, whatever it is sent.

Schemathesis makes requests from the document, right and wrong ones, and holds each answer against it.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.auth.passwords.rules import password_hasher
from functions.host import load_functions
from shared.config import Settings
from shared.db.models import Role, User
from shared.db.session import Database
from shared.http.app import create_api
from shared.runtime.services import Services
from shared.security.principal import Principal
from shared.telemetry.metrics import HTTP_SECONDS
from tests.builders import make_tenant, make_user
from tests.integration.operations import PATHS, operations
from tests.integration.product import running_product
from tests.integration.victims import Victim, make_victim

SEED = 1
EXAMPLES = 12
"""Requests that are made up for each operation, beside those that its document suggests by itself."""
SPARE = 4
MANY = 10**9
LIMITS = ("account_failures", "address_failures", "registrations_per_hour", "resets_per_hour")
LEFT_OUT = {
    "positive_data_acceptance": "a schema cannot say that a password must be uncommon or a token one that was sent",
}
"""Checks of Schemathesis that say nothing here, and why."""


NEVER = {
    "GET /auth/oidc/login",
}
"""Operations that this test cannot get to do what they are for: they need what only another party has."""
Report = dict[str, Any]


@pytest.fixture
def unlimited(settings: Settings) -> Settings:
    """Limits have tests of their own; here they would hide what lies behind them."""
    return settings.model_copy(update={"bcrypt_cost": 4, **dict.fromkeys(LIMITS, MANY)})


@pytest.fixture
def product(unlimited: Settings, database: Database) -> Iterator[tuple[Services, httpx.Client]]:
    with running_product(unlimited, database) as running:
        yield running


def schemathesis(
    services: Services, url: str, caller: Principal, things: list[Victim], *options: str
) -> Report:
    """What the command line reports of requests from `caller`, or a failed test."""
    folder = services.settings.data_dir
    described = {
        "user_id": str(caller.user_id),
        "tenant_id": str(caller.tenant_id),
        "role": caller.role,
        "data_dir": str(folder),
        "things": [{path: str(aim(victim)) for path, aim in PATHS.items()} for victim in things],
    }
    environment = {
        **os.environ,
        "SCHEMATHESIS_CALLER": json.dumps(described),
        "SCHEMATHESIS_HOOKS": "tests.integration.schemathesis_hooks",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}openapi.json", "--no-color"]
    command += ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--no-shrink", "--continue-on-failure"]
    command += ["--generation-database", "none", "--exclude-checks", ",".join(LEFT_OUT)]
    command += ["--report-json-path", "report.json", *options]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    report: Report = json.loads((folder / "report.json").read_text())
    return report


def fulfilled() -> Counter[str]:
    """How often each route did what it was asked, by this process's own metrics."""
    counts: Counter[str] = Counter()
    for sample in next(iter(HTTP_SECONDS.collect())).samples:
        if sample.name.endswith("_count") and sample.labels["status"] in ("2xx", "3xx"):
            counts[f"{sample.labels['method']} {sample.labels['route']}"] += int(sample.value)
    return counts


@pytest.mark.parametrize(
    ("role", "phases"), [(Role.ADMIN, "examples,coverage,fuzzing"), (Role.USER, "coverage")]
)
def test_every_answer_is_one_that_the_document_tells_of(
    product: tuple[Services, httpx.Client], role: Role, phases: str
) -> None:
    services, http = product
    tenant_id = make_tenant(services.database)
    things = [make_victim(services, tenant_id) for _ in range(SPARE)]
    caller = make_user(services.database, tenant_id, role) if role is Role.ADMIN else things[0].user
    with services.database.tenant(tenant_id) as session:
        password = services.once(password_hasher).hash("correct horse battery")
        session.get_one(User, caller.user_id).password_hash = password
    before = fulfilled()
    report = schemathesis(services, str(http.base_url), caller, things, "--phases", phases)
    document = operations(create_api(load_functions(), services, {}))
    assert report["operations"]["tested"] == len(document)
    assert report["test_cases"]["generated"] > 20 * len(document)
    if role is Role.ADMIN:
        never = {str(operation) for operation in document} - set(fulfilled() - before)
        assert never == NEVER, "a route that does nothing it is asked shows little"
