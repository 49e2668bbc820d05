"""HTTP of the administration of accounts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from functions.auth.accounts.schemas import Account
from functions.auth.users import repository, service
from functions.auth.users.schemas import AccountChange
from shared.db.models import User
from shared.db.models.accounts import Role
from shared.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unauthenticated
from shared.http.access import UserManager
from shared.http.deps import ServicesDep, Unit, address_of
from shared.http.etags import IfMatch, etag_of
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses
from shared.security.audit import Actor

router = APIRouter(
    prefix="/users", tags=["users"], responses=problem_responses(Unauthenticated, Forbidden, Invalid)
)
MISSING = problem_responses(NotFound)
_CHANGE = {"role": "radiologist", "is_active": True, "department": "Neuroradiology"}


def _actor(request: Request, caller: UserManager) -> Actor:
    return Actor.of(caller, address_of(request))


ActorDep = Annotated[Actor, Depends(_actor)]


@router.get("", summary="Accounts of your tenant")
def list_users(
    unit: Unit,
    _: UserManager,
    paging: PagingDep,
    role: Annotated[Role | None, Query(description="only accounts of this role")] = None,
    is_active: Annotated[bool | None, Query(description="only active, or only inactive ones")] = None,
    q: Annotated[
        str | None, Query(max_length=254, description="part of the e-mail address, username or full name")
    ] = None,
) -> Page[Account]:
    """The newest first; people who were removed are not listed."""
    rows, cursor = paging.fetch(unit.session, repository.listed(role, is_active, q), User.id)
    unit.audit("user.list", details={"count": len(rows)})
    return Page(items=[Account.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/{id}", summary="An account", responses=MISSING)
def read_user(id: UUID, unit: Unit, _: UserManager, response: Response) -> Account:
    """An account of your tenant; its ETag goes into If-Match when you change it."""
    user = service.find(unit.session, id)
    unit.audit("user.read", subject=("user", user.id))
    response.headers["ETag"] = etag_of(user.updated_at)
    return Account.model_validate(user)


@router.patch(
    "/{id}",
    summary="Change an account",
    responses=problem_responses(NotFound, Conflict, PreconditionFailed),
)
def change_user(
    id: UUID,
    services: ServicesDep,
    caller: UserManager,
    actor: ActorDep,
    response: Response,
    change: Annotated[AccountChange, Body(openapi_examples={"change": {"value": _CHANGE}})],
    if_match: IfMatch = None,
) -> Account:
    """Role, state and profile. A new role or state ends the account's sessions; `is_active: true` also lifts the lock
    that wrong passwords put on it."""
    changes = change.model_dump(exclude_unset=True)
    account = service.change(services, caller, actor, id, changes, if_match)
    response.headers["ETag"] = etag_of(account.updated_at)
    return account


@router.delete(
    "/{id}",
    status_code=204,
    summary="Remove a person",
    responses=problem_responses(NotFound, Conflict),
)
def remove_user(id: UUID, services: ServicesDep, caller: UserManager, actor: ActorDep) -> None:
    """Studies and reports stay; the person is severed from them: names, address, password, keys and sessions go."""
    service.remove(services, caller, actor, id)
