"""Who people are and what lets them in: accounts, sessions, passwords, API keys, outside identity providers.

Events in: none. Events out: none. One folder per feature, each read in the order routes → service → repository:
`accounts/` (register, me, settings), `sessions/` (login, refresh, logout, public keys), `passwords/` (change, reset),
`api_keys/`, `users/` (for administrators), `oidc/` (log-in elsewhere).
"""

from fastapi import APIRouter

from functions.auth.accounts.routes import router as accounts
from functions.auth.api_keys.routes import router as api_keys
from functions.auth.limits import limits
from functions.auth.mail.postman import clean_mails
from functions.auth.oidc.routes import router as oidc
from functions.auth.passwords.routes import router as passwords
from functions.auth.sessions.routes import router as sessions
from functions.auth.sessions.service import clean_sessions
from functions.auth.users.routes import router as users
from shared.runtime.function import Function

HOUR = 3600.0

router = APIRouter()
for feature in (accounts, sessions, passwords, api_keys, users, oidc):
    router.include_router(feature)
function = Function("auth", router)
function.every(HOUR, "sessions")(clean_sessions)
function.every(HOUR, "mails")(clean_mails)
function.every(HOUR, "limits")(lambda services: services.once(limits).clean())
"""HTTP routes of accounts and log-ins."""
