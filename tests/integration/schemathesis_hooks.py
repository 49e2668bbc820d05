"""What Schemathesis' command line is told of us: who sends the requests.

Each request carries a session of its own, so that a log-out or a new password ends no more than that one.
"""

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import schemathesis
from schemathesis import AuthContext, Case

from shared.config import Settings
from shared.db.models import Role
from shared.security.keys import KeyStore
from shared.security.principal import Principal
from shared.security.tokens import TokenIssuer

CALLER = "SCHEMATHESIS_CALLER"
"""Environment: JSON object of the caller's ids and role, and of the folder with the keys."""


@schemathesis.auth(refresh_interval=None)
class FreshSession:
    """An access token that was just made."""

    def __init__(self) -> None:
        caller = json.loads(os.environ[CALLER])
        user_id, tenant_id = UUID(caller["user_id"]), UUID(caller["tenant_id"])
        self._user = Principal(user_id, tenant_id, Role(caller["role"]))
        key = KeyStore(Settings(data_dir=Path(caller["data_dir"]))).signing.current
        self._issuer = TokenIssuer(key.value, key.id, 15)

    def get(self, case: Case, context: AuthContext) -> str:
        return self._issuer.issue(self._user)

    def set(self, case: Case, data: str, context: AuthContext) -> None:
        headers: dict[str, Any] = {"Authorization": f"Bearer {data}"}
        case.headers = {**(case.headers or {}), **headers}
