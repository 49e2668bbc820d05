"""The routes that the older systems documented and that are called otherwise here. What they documented under the names
that we use too (`/auth/login`, `/scans`, `/process-mri`, …) needs no line.

`docs/older-systems.md` prints the table (`python -m functions.compat`).
"""

from shared.http.older_routes import OlderRoute

NEUROAI = "NeuroAI cases"
OCT = "OCT diagnosis"
BOTH = f"{NEUROAI}, {OCT}"

ROUTES: tuple[OlderRoute, ...] = (
    OlderRoute(BOTH, "POST", "/users/register", "POST", "/auth/register"),
    OlderRoute(BOTH, "POST", "/users/login", "POST", "/auth/login"),
    OlderRoute(NEUROAI, "POST", "/users/refresh", "POST", "/auth/refresh"),
    OlderRoute(NEUROAI, "POST", "/users/logout", "POST", "/auth/logout"),
    OlderRoute(OCT, "POST", "/users/reset-password", "POST", "/auth/reset-password"),
    OlderRoute(NEUROAI, "GET", "/users/profile", "GET", "/auth/me"),
    OlderRoute(NEUROAI, "PATCH", "/users/profile/update", "PATCH", "/auth/me"),
    OlderRoute(NEUROAI, "POST", "/users/profile/change-password", "POST", "/auth/me/password"),
    OlderRoute(BOTH, "GET", "/users/users", "GET", "/users"),
    OlderRoute(OCT, "GET", "/users/users/{id}", "GET", "/users/{id}"),
    OlderRoute(OCT, "PATCH", "/users/users/{id}", "PATCH", "/users/{id}"),
    OlderRoute(OCT, "DELETE", "/users/users/{id}", "DELETE", "/users/{id}"),
    OlderRoute(NEUROAI, "PATCH", "/cases/{id}/update", "PATCH", "/cases/{id}"),
    OlderRoute(NEUROAI, "DELETE", "/cases/{id}/delete", "DELETE", "/cases/{id}"),
)


def markdown() -> str:
    """The table as documentation shows it."""
    lines = ["| older route | route of today | documented by |", "|---|---|---|"]
    for route in ROUTES:
        today = f"{route.new_method} /api{route.new_path}"
        lines.append(f"| `{route.method} /api{route.path}` | `{today}` | {route.system} |")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown() + "\n")
