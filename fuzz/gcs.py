"""
Answers of a bucket with the status 200: to an upload, a look, a listing, a renewal of leases.

The first byte of an input says what was asked, the rest is the answer. Nothing but ``StorageError`` and
``NotFoundError`` may escape, and what passes has whole numbers where those belong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from requests import Response, Session

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import IMMUTABLE
from rapidrtmp.storage.bucket import Bucket
from rapidrtmp.storage.bucket_leases import BucketLeases
from rapidrtmp.storage.generations import ObjectWrite

__all__ = ["run"]


class _Answering(Session):
    """Answers whatever is asked, each time the same; once it has been asked too often, nothing at all."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body
        self._left = 50

    def request(self, *_args: Any, **_kwargs: Any) -> Response:  # type: ignore[override]
        response = Response()
        self._left -= 1
        response.status_code = 200 if self._left > 0 else 403
        response._content = self._body
        response.headers["Content-Type"] = "application/json"
        return response


def run(data: bytes) -> None:
    """One answer. :raises AssertionError: an invariant does not hold."""
    session = _Answering(data[1:])
    client = Client(project="any", credentials=AnonymousCredentials(), _http=session)
    bucket = Bucket(lambda: client, "bucket", "")
    calls: tuple[Callable[[], object], ...] = (
        lambda: _check_info(*bucket.look("a")),
        lambda: [_check_info(info, 0) for info in bucket.find("a")],
        lambda: bucket.write(ObjectWrite("a", b"data", "video/mp4", IMMUTABLE)),
        lambda: bucket.write(ObjectWrite("a", b"data", "video/mp4", "no-cache")),
        lambda: BucketLeases(bucket, "me").find(""),
        lambda: BucketLeases(bucket, "me").claim("live/cam"),
    )
    try:
        calls[data[0] % len(calls) if data else 0]()
    except (StorageError, NotFoundError):
        return


def _check_info(info: Any, generation: int) -> None:
    assert type(info.size) is int
    assert info.size >= 0
    assert type(info.modified_ms) is int
    assert type(generation) is int
