"""Routes under the names that older systems gave them: the path is rewritten before routing, so that each is answered by
the route of today, with its access rules, limits and metrics."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True)
class OlderRoute:
    """One line of the table. Both paths are templates such as `/users/users/{id}`, without `/api` and closing slash."""

    system: str
    """Which older systems documented it."""
    method: str
    path: str
    new_method: str
    new_path: str


class OlderRoutes:
    """Gives a request for an older route the method and path of today's; all others pass as they are."""

    def __init__(self, app: ASGIApp, table: Sequence[OlderRoute]) -> None:
        self.app = app
        self._table = [(route, _pattern(route.path)) for route in table]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(self._of_today(scope) if scope["type"] == "http" else scope, receive, send)

    def _of_today(self, scope: Scope) -> Scope:
        for route, pattern in self._table:
            if route.method == scope["method"] and (found := pattern.fullmatch(scope["path"])):
                path = route.new_path.format(**found.groupdict())
                return {**scope, "method": route.new_method, "path": path}
        return scope


def _pattern(template: str) -> re.Pattern[str]:
    """A template as a pattern; a placeholder stands for one segment of a path."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)))
