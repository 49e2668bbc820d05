"""The API's documentation for people, at /docs (Swagger UI) and /redoc (ReDoc), without help from another host.

Scripts and styles are files of the package fastapi-offline; the Content-Security-Policy lets nothing else run.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from shared.errors import NotFound
from shared.http.access import public

REASON = "describes the API, tells nothing of anybody's data"
DOCUMENT = "/api/openapi.json"
FILES = "/api/docs"
KEPT = {"Cache-Control": "public, max-age=86400"}
ONLY_OURS = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the two pages. Both style elements as they go; ReDoc searches in a worker."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hounsfield API</title>
<link rel="icon" href="data:,">
{head}
</head>
<body>
{body}
</body>
</html>
"""
_SWAGGER = _PAGE.format(
    head=f'<link rel="stylesheet" href="{FILES}/swagger-ui.css">',
    body=f'<div id="swagger-ui"></div>\n<script src="{FILES}/swagger-ui-bundle.js"></script>\n'
    f'<script src="{FILES}/start.js"></script>',
)
_REDOC = _PAGE.format(
    head="",
    body=f'<redoc spec-url="{DOCUMENT}"></redoc>\n<script src="{FILES}/redoc.standalone.js"></script>',
)
_START = f"""// A session in a browser must show the value of its csrf cookie with all that it changes.
function withCsrf(request) {{
  const cookie = document.cookie.match(/(?:^|; )(?:__Host-)?hounsfield_csrf=([^;]+)/);
  if (cookie) request.headers["X-CSRF-Token"] = cookie[1];
  return request;
}}
SwaggerUIBundle({{
  url: "{DOCUMENT}",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
  requestInterceptor: withCsrf,
}});
"""
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")


def docs_router() -> APIRouter:
    """The two pages and their files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    @public(REASON)
    def swagger() -> Response:
        return _page(_SWAGGER)

    @router.get("/redoc")
    @public(REASON)
    def redoc() -> Response:
        return _page(_REDOC)

    @router.get("/docs/start.js")
    @public(REASON)
    def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=KEPT)

    @router.get("/docs/{name}")
    @public(REASON)
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise NotFound(f"the documentation has no file of this name; it has {', '.join(ASSETS)}")
        return FileResponse(_assets() / name, headers=KEPT)

    return router


def _page(content: str) -> Response:
    return HTMLResponse(content, headers={"Content-Security-Policy": ONLY_OURS})


@cache
def _assets() -> Path:
    """Where fastapi-offline keeps its files; its code is not needed."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package fastapi-offline, with the files of /docs, is not installed")
    return Path(spec.origin).parent / "static"
