"""Accounts and log-ins: registration, access tokens, the caller's own profile, the public keys.

Events in: none. Events out: none.
Routes: `POST /auth/register`, `POST /auth/login`, `GET|PUT|PATCH /auth/me`, `GET /auth/jwks.json`.
Other code calls `functions.auth.service`: `ensure_admin` at start-up, `create_user` from the command line.
"""

from functions.auth.routes import router
from shared.runtime.function import Function

function = Function("auth", router)
