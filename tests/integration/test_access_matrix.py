"""Every route there is, tried by everybody who should get nowhere.

Operations come from the application's own document, so that a new route is tried by itself. One whose parameters this
test does not know fails it with what to add; a public one needs a line in PUBLIC.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import select

from functions.host import load_functions
from shared.config import Settings
from shared.db.models import Role, Study
from shared.db.session import Database
from shared.http.access import StudiesReader, StudiesWriter, public
from shared.http.app import create_api
from shared.http.deps import ServicesDep, Unit
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.policy import Reach, reach
from shared.security.principal import Principal
from tests.builders import make_tenant, make_user
from tests.integration.identities import Identity, bearer, identities
from tests.integration.operations import PATHS, Operation, UnknownAim, operations, said_in, undescribed_routes
from tests.integration.product import make_services, running_product
from tests.integration.victims import OWNED, Victim, belongings, make_victim

REFUSED = {401, 403, 404}
PUBLIC = {
    ("GET", "/auth/jwks.json"),
    ("GET", "/auth/oidc"),
    ("GET", "/auth/oidc/callback"),
    ("GET", "/auth/oidc/login"),
    ("POST", "/auth/login"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/register"),
    ("POST", "/auth/reset-password"),
    ("POST", "/auth/reset-password/confirm"),
    ("POST", "/events"),
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/reset-password"),
    ("GET", "/storage/{bucket}/{key}"),
    ("PUT", "/storage/{bucket}/{key}"),
}
"""What anybody may call. A route that is not here must refuse whoever has no account."""
UNDESCRIBED = {
    ("GET", "/docs"),
    ("GET", "/docs/start.js"),
    ("GET", "/docs/{name}"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("GET", "/redoc"),
}
"""What is answered beside the document; nothing of anybody's."""


@pytest.fixture
def cheap(settings: Settings) -> Settings:
    """Password hashes that cost little."""
    return settings.model_copy(update={"bcrypt_cost": 4})


class Hospital:
    """A victim, the administrator of its tenant, and the product that both use."""

    def __init__(self, services: Services, http: httpx.Client, operations: Sequence[Operation]) -> None:
        self.services = services
        self.http = http
        self.operations = operations
        self.tenant_id = make_tenant(services.database)
        self.other_tenant_id = make_tenant(services.database)
        self.victim = make_victim(services, self.tenant_id)
        self.admin = make_user(services.database, self.tenant_id, Role.ADMIN)

    def identities(self) -> list[Identity]:
        return identities(self.services, self.victim, self.admin, self.other_tenant_id)

    def entitled(self, operation: Operation, victim: Victim) -> Principal:
        """Who may do this to the victim's things: the victim, or else the administrator."""
        mine = reach(victim.user.role, operation.action) is not Reach.NONE
        return victim.user if mine else self.admin

    def send(
        self, operation: Operation, headers: dict[str, str], victim: Victim | None = None
    ) -> httpx.Response:
        response = self.http.request(**operation.request(victim or self.victim), headers=headers)
        self.http.cookies.clear()
        return response


@pytest.fixture
def hospital(cheap: Settings, database: Database) -> Iterator[Hospital]:
    with running_product(cheap, database) as (services, http):
        yield Hospital(services, http, operations(create_api(load_functions(), services, {})))


def offences(hospital: Hospital, tried: Sequence[Operation]) -> list[str]:
    """What went wrong when everybody tried these operations. Public ones are tried too: they may answer, but tell
    nothing of the victim's."""
    callers = hospital.identities()
    before = belongings(hospital.services, hospital.victim)
    found = []
    for identity in callers:
        for operation in tried:
            if identity.tries(operation):
                response = hospital.send(operation, identity.headers(operation))
                found += [
                    f"{identity.name}: {operation}: {what}"
                    for what in _wrong(hospital, identity, operation, response)
                ]
    after = belongings(hospital.services, hospital.victim)
    changed = [name for name in before if before[name] != after[name]]
    return found + [f"what the victim has in {name} was changed" for name in changed]


def _wrong(
    hospital: Hospital, identity: Identity, operation: Operation, response: httpx.Response
) -> Iterator[str]:
    status = response.status_code
    own_things = not operation.is_public and identity.may(operation) and not operation.is_aimed
    if status >= 500 or not (operation.is_public or own_things or status in REFUSED):
        yield f"{status} {response.text[:200]}"
    said = said_in(operation.request(hospital.victim))
    told = f"{response.headers} {response.text}"
    for needle in sorted(hospital.victim.needles()):
        if needle in told and needle not in said:
            yield f"{status}, and the answer holds {needle!r}"


def test_nobody_else_gets_at_anything(hospital: Hospital) -> None:
    assert offences(hospital, hospital.operations) == []
    let_in = [identity for identity in hospital.identities() if identity.role is not None]
    assert len(let_in) == 2 * len(Role) - 1
    for identity in let_in:
        me = hospital.http.get("auth/me", headers=identity.headers(hospital.operations[0]))
        assert me.status_code == 200, "somebody whom nobody knows is refused everywhere: that shows nothing"


def test_whether_a_body_is_right_is_told_to_nobody_who_may_not_send_one(hospital: Hospital) -> None:
    with_body = [one for one in hospital.operations if "requestBody" in one.described and not one.is_public]
    assert with_body
    unentitled = [one for one in hospital.identities() if one.role is None and one.tries(with_body[0])]
    for operation in with_body:
        request = operation.request(hospital.victim)
        bare = {name: request[name] for name in ("method", "url", "params")}
        for identity in unentitled:
            for body in ({"json": []}, {"json": {"no such field": 1}}, {}):
                answer = hospital.http.request(**bare, **body, headers=identity.headers(operation))
                assert answer.status_code in REFUSED, (identity.name, str(operation), body, answer.text)


def test_whoever_may_gets_through_with_the_same_requests(hospital: Hospital) -> None:
    """Otherwise the refusals above might be about something else than who asks."""
    for operation in hospital.operations:
        if operation.is_public:
            continue
        victim = make_victim(hospital.services, hospital.tenant_id)
        caller = hospital.entitled(operation, victim)
        response = hospital.send(operation, bearer(hospital.services, caller), victim)
        assert response.status_code < 500, (str(operation), response.text)
        if operation.is_aimed or operation.method == "GET":
            assert response.status_code not in REFUSED, (str(operation), response.text)


def test_the_victim_owns_a_row_of_every_table_that_has_owners(hospital: Hospital) -> None:
    mine = belongings(hospital.services, hospital.victim)
    missing = [str(table.name) for table in OWNED if not mine[str(table.name)]]
    assert missing == [], "have make_victim in tests/integration/victims.py make one of each"
    assert len(mine["objects"]) >= 5, "the file, the overlay, three forms of the report"


def test_what_is_public_is_listed(settings: Settings, database: Database) -> None:
    api = create_api(load_functions(), make_services(settings, database, 0), {})
    found = {(operation.method, operation.path) for operation in operations(api) if operation.is_public}
    assert found == PUBLIC
    assert set(undescribed_routes(api)) == UNDESCRIBED


wrong = APIRouter()


@wrong.get("/wrong/studies/{study_id}")
def no_check_of_the_owner(study_id: str, unit: Unit, user: StudiesReader) -> dict[str, Any]:
    return {"patient_id": unit.session.scalar(select(Study.patient_id).where(Study.id == study_id))}


@wrong.get("/wrong/studies")
def the_tenants_list(unit: Unit, user: StudiesReader) -> list[str]:
    return [study.patient_id for study in unit.session.scalars(select(Study))]


@wrong.get("/wrong/anonymous")
@public("it is not")
def no_account(services: ServicesDep) -> list[str]:
    tenants = services.storage.list_objects("studies")
    return [ref.key for ref in tenants]


@wrong.delete("/wrong/silently")
def changes_all(unit: Unit, user: StudiesWriter) -> None:
    for study in unit.session.scalars(select(Study)):
        study.status = "rejected"


def test_wrong_routes_are_caught(
    cheap: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = Function("wrong", wrong)
    with running_product(cheap, database, function) as (services, http):
        of_function = operations(create_api([function], services, {}))
        tried = {
            operation.path: operation for operation in of_function if operation.path.startswith("/wrong")
        }
        hospital = Hospital(services, http, of_function)
        with pytest.raises(UnknownAim, match=r"add '/wrong/studies/\{study_id\}' to PATHS"):
            offences(hospital, [tried["/wrong/studies/{study_id}"]])
        monkeypatch.setitem(PATHS, "/wrong/studies/{study_id}", lambda victim: victim.study_id)
        seen = offences(hospital, [tried["/wrong/studies/{study_id}"]])
        assert [
            one
            for one in seen
            if one.startswith("the same tenant's doctor: GET /wrong/studies/{study_id}: 200")
        ]
        listed = offences(hospital, [tried["/wrong/studies"]])
        assert (
            "the same tenant's user: GET /wrong/studies: 200, and the answer holds 'P-victim-7731'" in listed
        )
        open_to_all = offences(hospital, [tried["/wrong/anonymous"]])
        assert [
            one
            for one in open_to_all
            if one.startswith("nobody: GET /wrong/anonymous: 200, and the answer holds")
        ]
        changed = offences(hospital, [tried["/wrong/silently"]])
        assert changed == ["what the victim has in studies was changed"]
