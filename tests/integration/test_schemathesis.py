"""What the OpenAPI document says is what the running product answers, whatever it is sent.

Schemathesis makes requests from the document, right and wrong ones, and holds each answer against it. Every request
carries a session of its own, so that a log-out or a new password ends no more than that.
"""

from collections.abc import Iterator
from itertools import islice

import httpx
import pytest
import schemathesis
from hypothesis import Phase, settings
from schemathesis import Case, GenerationMode
from schemathesis.schemas import BaseSchema

from shared.config import Settings
from shared.db.models import Role
from shared.db.session import Database
from shared.security.principal import Principal
from tests.builders import make_tenant, make_user
from tests.integration.identities import bearer
from tests.integration.operations import PATHS
from tests.integration.product import running_product
from tests.integration.victims import Victim, make_victim

EXAMPLES = 25
MANY = 10**9


class Caller:
    """An account that sends the requests, and a victim whose things they are aimed at."""

    def __init__(self, services, schema: BaseSchema, role: Role) -> None:
        self.services = services
        self.schema = schema
        self.tenant_id = make_tenant(services.database)
        self.role = role
        self.admin = make_user(services.database, self.tenant_id, Role.ADMIN)
        self.victim = make_victim(services, self.tenant_id)

    @property
    def user(self) -> Principal:
        return self.admin if self.role is Role.ADMIN else self.victim.user

    def headers(self) -> dict[str, str]:
        return bearer(self.services, self.user)

    def aim(self, case: Case) -> bool:
        """Have a right request name what there is; whether it can."""
        if not case.path_parameters or case.meta is None or case.meta.generation.mode is GenerationMode.NEGATIVE:
            return False
        for name in case.path_parameters:
            upto = case.path[: case.path.index("{" + name + "}") + len(name) + 2]
            case.path_parameters[name] = str(PATHS[upto](self.victim))
        return True

    def renew(self) -> None:
        self.victim = make_victim(self.services, self.tenant_id)


@pytest.fixture
def unlimited(settings: Settings) -> Settings:
    """Limits have tests of their own; here they would hide what lies behind them."""
    limits = ("account_failures", "address_failures", "registrations_per_hour", "resets_per_hour")
    return settings.model_copy(update={"bcrypt_cost": 4, **dict.fromkeys(limits, MANY)})


@pytest.fixture
def api(unlimited: Settings, database: Database):
    with running_product(unlimited, database) as (services, http):
        url = str(http.base_url)
        schema = schemathesis.openapi.from_url(url + "openapi.json")
        schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        schema.caller = None
        schema.services = services
        yield schema


@pytest.fixture
def as_admin(api):
    api.caller = Caller(api.services, api, Role.ADMIN)
    return api


schema = schemathesis.pytest.from_fixture("as_admin")


@schema.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_admin(case: Case) -> None:
    caller = case.operation.schema.caller
    case.call_and_validate(headers=caller.headers())
    if caller.aim(case):
        response = case.call_and_validate(headers=caller.headers())
        if case.method != "GET" and response.status_code < 300:
            caller.renew()
