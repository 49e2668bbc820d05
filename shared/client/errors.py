"""What can go wrong for a client."""


class CallFailed(Exception):
    """The server refused, could not be reached, or something on this side is not as it must be: `detail` says which.

    `status` is the HTTP status, `type` the problem's type (RFC 9457); both None where no problem was answered.
    `passing` says that the same may go well later: the server was there, and is away or too busy.
    """

    def __init__(
        self, detail: str, *, status: int | None = None, type: str | None = None, passing: bool = False
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.type = type
        self.passing = passing


class NoAnswer(CallFailed):
    """Nothing answered, for as long as we were willing to wait. `sent` tells whether the request may have arrived."""

    def __init__(self, detail: str, *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


class FileChanged(CallFailed):
    """A file is no longer what it was when its upload began."""
