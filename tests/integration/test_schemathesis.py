"""What the OpenAPI document says is what the running product answers, whatever it is sent.

Schemathesis makes requests from the document, right and wrong ones, and holds each answer against it.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
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
from tests.integration.operations import Operation, operations
from tests.integration.product import running_product
from tests.integration.victims import Victim, add_api_key, make_victim

SEED = 1
EXAMPLES = 30
"""Requests that are made up for each operation, beside those that its document suggests by itself."""
SPARE = 2
"""Things that there are for each operation that deletes or changes one."""
MANY = 10**9
LIMITS = ("account_failures", "address_failures", "registrations_per_hour", "resets_per_hour")
LEFT_OUT = {
    "positive_data_acceptance": "a schema cannot say that a password must be uncommon or a token one that was sent",
}
"""Checks of Schemathesis that say nothing here, and why."""


NEVER = {
    "GET /auth/oidc/callback": "no identity provider is configured",
    "GET /auth/oidc/login": "no identity provider is configured",
    "GET /storage/{bucket}/{key}": "asks for a signed URL",
    "GET /viewer/{slide}.dzi": "asks for a slide that can be opened",
    "GET /viewer/{slide}/thumbnail": "asks for a slide that can be opened",
    "GET /viewer/{slide}_files/{level}/{col}_{row}.jpg": "asks for a slide that can be opened",
    "POST /auth/me/password": "asks for a password that is right",
    "POST /auth/refresh": "asks for a token that was sent",
    "POST /auth/reset-password/confirm": "asks for a token that was sent",
    "POST /cases/{id}/upload": "asks for an image",
    "POST /dicom-web/studies": "asks for images",
    "POST /dicom-web/studies/{study}": "asks for images",
    "POST /events": "closed without HOUNSFIELD_EVENTS_TOKEN",
    "POST /oct/predict": "asks for an image",
    "POST /process-mri": "asks for a volume",
    "POST /segmentation/upload": "asks for a CT",
    "POST /slides/upload/finish": "asks for a slide whose parts were sent",
    "POST /studies": "asks for images",
    "POST /studies/{id}/release": "asks for a study that is held",
    "POST /uploads/{id}/finish": "asks for an upload whose parts were sent",
    "PUT /storage/{bucket}/{key}": "asks for a signed URL",
}
"""Operations that made-up requests cannot get to do what they are for, and why; all others must have done it."""
Report = dict[str, Any]
Things = dict[str, list[dict[str, dict[str, str]]]]


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
        "things": things,
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


def things_for(services: Services, document: list[Operation], caller: Principal, victim: Victim) -> Things:
    """What there is for each operation to name: what stays for one that reads, a victim's of its own for others."""
    things: Things = {}
    for operation in document:
        victims = [victim]
        if operation.method != "GET" and (operation.is_aimed or operation.query(victim)):
            victims = [make_victim(services, victim.tenant_id) for _ in range(SPARE)]
        with services.database.tenant(victim.tenant_id) as session:
            if operation.path.startswith("/auth/api-keys"):  # one's own, whoever one is
                victims = [replace(one, api_key_id=add_api_key(session, caller)[0]) for one in victims]
        things[str(operation)] = [
            {"path_parameters": operation.path_parameters(one), "query": operation.query(one)}
            for one in victims
        ]
    return things


@pytest.mark.parametrize(
    ("role", "phases"), [(Role.ADMIN, "examples,coverage,fuzzing"), (Role.USER, "coverage")]
)
def test_every_answer_is_one_that_the_document_tells_of(
    product: tuple[Services, httpx.Client], role: Role, phases: str
) -> None:
    services, http = product
    victim = make_victim(services, make_tenant(services.database))
    caller = make_user(services.database, victim.tenant_id, role) if role is Role.ADMIN else victim.user
    with services.database.tenant(victim.tenant_id) as session:
        password = services.once(password_hasher).hash("correct horse battery")
        session.get_one(User, caller.user_id).password_hash = password
    document = operations(create_api(load_functions(), services, {}))
    things = things_for(services, document, caller, victim)
    before = fulfilled()
    report = schemathesis(services, str(http.base_url), caller, things, "--phases", phases)
    assert report["operations"]["tested"] == len(document)
    assert report["test_cases"]["generated"] > 10 * len(document)
    if role is Role.ADMIN:
        assert {str(operation) for operation in document} - set(fulfilled() - before) == set(NEVER)
