"""What the mails about passwords say. Nothing in them was written by a visitor: their links come from the settings, since
a request's Host header could lead anywhere."""

from functions.auth.mail.port import Mail
from shared.config import Settings

PAGE = "/reset-password"


def reset_letter(settings: Settings, to: str, token: str) -> Mail:
    """The way to a new password. The token stands behind `#` in the link, which browsers keep to themselves."""
    base = settings.base_url
    return Mail(
        to,
        "Reset your Hounsfield password",
        f"""Somebody, probably you, asked to reset the password of your account at {base}.

Set a new password here:

{base}{PAGE}#token={token}

or send this token with the new password to {base}/api/auth/reset-password/confirm:

{token}

It works once, for {_minutes(settings.reset_minutes)} from now. A newer mail like this one makes it void.

If it was not you, ignore this mail: your password stays as it is.
""",
    )


def changed_letter(settings: Settings, to: str) -> Mail:
    """Tells the owner, in case it was somebody else."""
    base = settings.base_url
    return Mail(
        to,
        "Your Hounsfield password was changed",
        f"""The password of your account at {base} was changed just now, and you were logged out everywhere else.
API keys of the account still work.

If it was you, there is nothing to do. If it was not, reset the password at once

{base}{PAGE}

revoke the API keys that you do not know, and tell an administrator.
""",
    )


def _minutes(minutes: float) -> str:
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"
