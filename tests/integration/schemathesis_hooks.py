"""What Schemathesis' command line is told of us: who sends the requests, and what there is that they can name.

Each request carries a session of its own, so that a log-out or a new password ends no more than that one.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import schemathesis
from schemathesis import AuthContext, Case, GenerationMode, HookContext

from shared.config import Settings
from shared.db.models import Role
from shared.security.keys import KeyStore
from shared.security.principal import Principal
from shared.security.tokens import TokenIssuer

caller: dict[str, Any] = json.loads(os.environ["SCHEMATHESIS_CALLER"])
"""`user_id`, `tenant_id`, `role`, `data_dir` (where the keys are) and `things`: operation → one object for each time
that it can name something that there is, of `path_parameters` and `query`."""
KEPT = {
    name
    for label, things in caller["things"].items()
    if label.startswith("GET ")
    for thing in things
    for name in thing["path_parameters"].values()
    if re.fullmatch("[0-9a-f-]{36}", name)
}
"""Ids of what must be there to be read until the end. Schemathesis learns them from answers."""
sent: Counter[str] = Counter()


@schemathesis.auth(refresh_interval=None)
class FreshSession:
    """An access token that was just made."""

    def __init__(self) -> None:
        user_id, tenant_id = UUID(caller["user_id"]), UUID(caller["tenant_id"])
        self._user = Principal(user_id, tenant_id, Role(caller["role"]))
        key = KeyStore(Settings(data_dir=Path(caller["data_dir"]))).signing.current
        self._issuer = TokenIssuer(lambda: key, 15)

    def get(self, case: Case, context: AuthContext) -> str:
        return self._issuer.issue(self._user)

    def set(self, case: Case, data: str, context: AuthContext) -> None:
        headers: dict[str, Any] = {"Authorization": f"Bearer {data}"}
        case.headers = {**(case.headers or {}), **headers}


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Every second request that is right in itself names something that there is, while there is; what changes
    something names nothing that others read."""
    label = f"{case.method} {case.path}"
    if case.method != "GET":
        for part in ("path_parameters", "body"):
            sent_now = getattr(case, part)
            if (
                spared := _spared(sent_now)
            ) != sent_now:  # a body that is set anew is judged anew, and null wrongly
                setattr(case, part, spared)
    is_right = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if not is_right or label not in caller["things"]:
        return
    sent[label] += 1
    things = caller["things"][label]
    if sent[label] % 2 and (case.method == "GET" or sent[label] // 2 < len(things)):
        thing = things[sent[label] // 2 % len(things)]
        case.path_parameters = {**(case.path_parameters or {}), **thing["path_parameters"]}
        case.query = {**(case.query or {}), **thing["query"]}


def _spared(value: Any) -> Any:
    """The same with nobody's id in place of each that is kept."""
    if isinstance(value, dict):
        return {key: _spared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spared(item) for item in value]
    return str(uuid4()) if isinstance(value, str) and value in KEPT else value
