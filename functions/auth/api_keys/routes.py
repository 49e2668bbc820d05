"""HTTP of API keys: one's own, and for administrators those of others."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query

from functions.auth.api_keys import repository, service
from functions.auth.api_keys.schemas import KeyOut, KeyRequest, NewKey
from functions.auth.users.service import find
from shared.db.models import ApiKey
from shared.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from shared.http.access import KeyManager, UserManager
from shared.http.deps import Unit
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses

router = APIRouter(responses=problem_responses(Unauthenticated, Forbidden, Invalid))
MISSING = problem_responses(NotFound)
_KEY = {"name": "Scanner 3", "scopes": ["studies:read", "studies:write"], "expires_in_days": 90}


@router.post(
    "/auth/api-keys",
    status_code=201,
    tags=["auth"],
    summary="Make an API key",
    responses=problem_responses(Conflict),
)
def make_key(
    unit: Unit,
    caller: KeyManager,
    request: Annotated[KeyRequest, Body(openapi_examples={"key": {"value": _KEY}})],
) -> NewKey:
    """The answer holds the key, for the only time. It acts as you, within its scopes and within what your role allows
    when it is used."""
    key, secret = service.make_key(unit, caller, request)
    return NewKey(**KeyOut.model_validate(key).model_dump(), key=secret)


@router.get("/auth/api-keys", tags=["auth"], summary="Your API keys")
def list_keys(unit: Unit, caller: KeyManager, paging: PagingDep) -> Page[KeyOut]:
    """The newest first, with those that were revoked or have expired."""
    return _page(unit, paging, caller.user_id)


@router.delete(
    "/auth/api-keys", status_code=204, tags=["auth"], summary="Revoke an API key (query)", responses=MISSING
)
def revoke_key_named(unit: Unit, caller: KeyManager, id: Annotated[UUID, Query()]) -> None:
    """The same as `DELETE /auth/api-keys/{id}`."""
    service.revoke_key(unit, caller.user_id, id)


@router.delete(
    "/auth/api-keys/{id}", status_code=204, tags=["auth"], summary="Revoke an API key", responses=MISSING
)
def revoke_key(id: UUID, unit: Unit, caller: KeyManager) -> None:
    """It is refused from now on; it stays in the list."""
    service.revoke_key(unit, caller.user_id, id)


@router.get("/users/{id}/api-keys", tags=["users"], summary="An account's API keys", responses=MISSING)
def list_keys_of_user(id: UUID, unit: Unit, _: UserManager, paging: PagingDep) -> Page[KeyOut]:
    """The newest first, with those that were revoked or have expired."""
    owner = find(unit.session, id)
    unit.audit("api_key.list", subject=("user", owner.id))
    return _page(unit, paging, owner.id)


@router.delete(
    "/users/{id}/api-keys/{key_id}",
    status_code=204,
    tags=["users"],
    summary="Revoke an account's API key",
    responses=MISSING,
)
def revoke_key_of_user(id: UUID, key_id: UUID, unit: Unit, _: UserManager) -> None:
    """It is refused from now on."""
    service.revoke_key(unit, find(unit.session, id).id, key_id)


def _page(unit: Unit, paging: PagingDep, owner_id: UUID) -> Page[KeyOut]:
    rows, cursor = paging.fetch(unit.session, repository.of_user(owner_id), ApiKey.id)
    return Page(items=[KeyOut.model_validate(row) for row in rows], next_cursor=cursor)
