"""What can be wrong with an HTTP request, beside what every route may raise (:mod:`rapidrtmp.interfaces.http`)."""

from __future__ import annotations

from collections.abc import Sequence

from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import ConflictError, HttpError

__all__ = [
    "BodyTooLargeError",
    "ForbiddenError",
    "HeaderTooLargeError",
    "MethodNotAllowedError",
    "NotYetError",
    "RangeNotSatisfiableError",
    "SeveralFilesError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UriTooLongError",
]


class UnauthorizedError(HttpError):
    """A credential is missing or wrong."""


class ForbiddenError(HttpError):
    """The client may not, and no credential would help."""


class NotYetError(HttpError, NotFoundError):
    """Not there now, but it is worth asking again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, {"Retry-After": str(retry_after_s)})


class MethodNotAllowedError(HttpError):
    """The resource does not know this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here, only {allowed}", {"Allow": allowed})


class SeveralFilesError(ConflictError):
    """
    What was asked for as one file can only be had as several.

    :param spans: dates from which to which each of them lasts.
    """

    def __init__(self, spans: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            f"the tracks or the recording change in that time, and a file has only one beginning: it can be had as "
            f"{len(spans)} files, whose from and to are in spans, or as one clip.m3u8"
        )
        self.facts = {"spans": [{"from": start, "to": end} for start, end in spans]}


class BodyTooLargeError(HttpError):
    """The request's body is longer than the operator allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is longer than {limit} bytes")


class UriTooLongError(HttpError):
    """The line of the request is longer than any is read."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request line is longer than {limit} bytes")


class HeaderTooLargeError(HttpError):
    """The header of the request is longer than any is read."""

    def __init__(self, fields: int, size: int) -> None:
        super().__init__(f"the header has more than {fields} fields or {size} bytes")


class RangeNotSatisfiableError(HttpError):
    """No byte of the range exists (RFC 9110, 15.5.17)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins beyond the {size} bytes there are", {"Content-Range": f"bytes */{size}"})


class TooManyRequestsError(HttpError):
    """This client holds more requests open than the operator allows."""
