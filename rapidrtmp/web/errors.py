"""
The one table that says which status each exception becomes.

Routes just raise. A message is for the client to read, so it never quotes a secret; an exception that is not in the
table is a bug, and its text stays in the log.
"""

from __future__ import annotations

from collections.abc import Mapping

from rapidrtmp.errors import NotFoundError, RapidRTMPError, StorageError
from rapidrtmp.http.errors import (
    BodyTooLargeError,
    ForbiddenError,
    HeaderTooLargeError,
    MethodNotAllowedError,
    RangeNotSatisfiableError,
    TooManyRequestsError,
    UnauthorizedError,
    UriTooLongError,
)
from rapidrtmp.http.websocket import UpgradeRequiredError
from rapidrtmp.interfaces import (
    NO_STORE,
    BadRequestError,
    ConflictError,
    HttpError,
    Response,
    UnavailableError,
    json_response,
)
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.live.shelf import TooManyWaitersError
from rapidrtmp.names import BadNameError

__all__ = ["STATUS_BY_ERROR", "error_response"]


STATUS_BY_ERROR: Mapping[type[RapidRTMPError], int] = {
    BadRequestError: 400,
    UpgradeRequiredError: 426,
    BadNameError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    ConflictError: 409,
    NameTakenError: 409,
    BodyTooLargeError: 413,
    UriTooLongError: 414,
    RangeNotSatisfiableError: 416,
    TooManyRequestsError: 429,
    LimitReachedError: 429,
    HeaderTooLargeError: 431,
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
