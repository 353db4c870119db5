"""
What can be wrong with an HTTP request, and the one table that says which status each exception becomes.

Routes just raise. A message is for the client to read, so it never quotes a secret; an exception that is not in the
table is a bug, and its text stays in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rapidrtmp.errors import NotFoundError, RapidRTMPError, StorageError
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.live.shelf import TooManyWaitersError
from rapidrtmp.names import BadNameError
from rapidrtmp.web.messages import NO_STORE, Response, json_response

__all__ = [
    "STATUS_BY_ERROR",
    "BadRequestError",
    "BodyTooLargeError",
    "ConflictError",
    "ForbiddenError",
    "HttpError",
    "MethodNotAllowedError",
    "NotYetError",
    "RangeNotSatisfiableError",
    "SeveralFilesError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "error_response",
]


class HttpError(RapidRTMPError):
    """
    The root of what only HTTP knows.

    :ivar headers: to be sent along with the status.
    :ivar facts: of use to programs, to be sent along with the message.
    """

    facts: Mapping[str, object] = MappingProxyType({})

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}


class BadRequestError(HttpError):
    """The request itself is wrong: the message names the field, what it held, and what would be right."""


class UnauthorizedError(HttpError):
    """A credential is missing or wrong."""


class ForbiddenError(HttpError):
    """Whoever asks may not, and no credential would help."""


class NotYetError(HttpError, NotFoundError):
    """Not there now, but it is worth asking again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, {"Retry-After": str(retry_after_s)})


class MethodNotAllowedError(HttpError):
    """The resource does not know this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here, only {allowed}", {"Allow": allowed})


class ConflictError(HttpError):
    """The state of things does not permit it."""


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


class RangeNotSatisfiableError(HttpError):
    """No byte of the range exists (RFC 9110, 15.5.17)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins beyond the {size} bytes there are", {"Content-Range": f"bytes */{size}"})


class TooManyRequestsError(HttpError):
    """This client holds more requests open than the operator allows."""


class UnavailableError(HttpError):
    """Not now; later perhaps."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, {"Retry-After": str(retry_after_s)})


STATUS_BY_ERROR: Mapping[type[RapidRTMPError], int] = {
    BadRequestError: 400,
    BadNameError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    ConflictError: 409,
    NameTakenError: 409,
    BodyTooLargeError: 413,
    RangeNotSatisfiableError: 416,
    TooManyRequestsError: 429,
    LimitReachedError: 429,
    UnavailableError: 503,
    TooManyWaitersError: 503,
    StorageError: 503,
}


def error_response(error: BaseException) -> Response:
    """The answer that tells a client of ``error``; 500, and not a word about it, if it is not in the table."""
    status = next((status for kind, status in STATUS_BY_ERROR.items() if isinstance(error, kind)), 500)
    headers = dict(NO_STORE)
    if isinstance(error, HttpError):
        headers.update(error.headers)
    elif status == 503:
        headers["Retry-After"] = "1"
    facts = error.facts if isinstance(error, HttpError) else {}
    message = str(error)
    if isinstance(error, StorageError):
        message = "the storage does not answer as it should"  # its own words name buckets and folders
    elif status == 500:
        message = "internal error"
    return json_response({"error": message, **facts}, status, headers)
