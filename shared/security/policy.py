"""Who may do what, in one table: role × action × whose it is. What the table does not allow is denied.

`docs/security.md` prints it (`python -m shared.security.policy`).
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum

from shared.db.models.accounts import Role


class Reach(IntEnum):
    """How far an action reaches."""

    NONE = 0
    OWN = 1
    """What belongs to the caller."""
    TENANT = 2
    """Everything in the caller's tenant."""


class Action(StrEnum):
    """What can be done; also the scopes that an API key may have."""

    STUDIES_READ = "studies:read"
    STUDIES_WRITE = "studies:write"
    REPORTS_READ = "reports:read"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"
    API_KEYS = "api-keys:manage"
    USERS = "users:manage"
    AUDIT_READ = "audit:read"


MEANING: Mapping[Action, str] = {
    Action.STUDIES_READ: "see cases and studies, their patients, files and results",
    Action.STUDIES_WRITE: "make cases, send studies, have them analysed, change and delete them",
    Action.REPORTS_READ: "read reports",
    Action.ACCOUNT_READ: "see one's own account",
    Action.ACCOUNT_WRITE: "change one's own profile and password, end one's sessions",
    Action.API_KEYS: "make, list and revoke API keys",
    Action.USERS: "list, change and remove accounts, register them in any role",
    Action.AUDIT_READ: "read the audit log",
}

_EVERYBODY: Mapping[Action, Reach] = {
    Action.STUDIES_READ: Reach.OWN,
    Action.STUDIES_WRITE: Reach.OWN,
    Action.REPORTS_READ: Reach.OWN,
    Action.ACCOUNT_READ: Reach.OWN,
    Action.ACCOUNT_WRITE: Reach.OWN,
    Action.API_KEYS: Reach.OWN,
}

POLICY: Mapping[Role, Mapping[Action, Reach]] = {
    Role.USER: _EVERYBODY,
    Role.DOCTOR: _EVERYBODY,
    Role.RADIOLOGIST: _EVERYBODY,
    Role.PATHOLOGIST: _EVERYBODY,
    Role.ADMIN: {
        **_EVERYBODY,
        Action.STUDIES_READ: Reach.TENANT,
        Action.STUDIES_WRITE: Reach.TENANT,
        Action.REPORTS_READ: Reach.TENANT,
        Action.USERS: Reach.TENANT,
        Action.AUDIT_READ: Reach.TENANT,
    },
}

GRANTABLE = frozenset(Action) - {Action.ACCOUNT_WRITE, Action.API_KEYS, Action.USERS}
"""What an API key may be made for: one that leaks must not let its finder take over the account or others."""
DEFAULT_SCOPES = frozenset(
    {Action.STUDIES_READ, Action.STUDIES_WRITE, Action.REPORTS_READ, Action.ACCOUNT_READ}
)
"""What an API key is for when its maker names nothing."""


def reach(role: Role, action: Action) -> Reach:
    """How far `action` reaches for `role`."""
    return POLICY.get(role, {}).get(action, Reach.NONE)


def markdown() -> str:
    """The table as documentation shows it."""
    words = {Reach.NONE: "–", Reach.OWN: "own", Reach.TENANT: "tenant"}
    lines = [
        f"| action | {' | '.join(Role)} | API key | meaning |",
        f"|---|{'---|' * len(Role)}---|---|",
    ]
    for action in Action:
        cells = [words[reach(role, action)] for role in Role]
        key = "default" if action in DEFAULT_SCOPES else "on request" if action in GRANTABLE else "never"
        lines.append(f"| `{action}` | {' | '.join(cells)} | {key} | {MEANING[action]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown() + "\n")
