"""The page that a reset mail links to: one file, whose script and style alone the browser may run."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files


@cache
def reset_page() -> str:
    """The page's HTML."""
    return (files("functions.auth.passwords") / "reset.html").read_text("utf-8")


def _hash_of(tag: str) -> str:
    """What the page holds between the tags, as a CSP source (CSP Level 3 §2.3.1)."""
    (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", reset_page(), re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
