"""
A bucket of Google Cloud Storage, through Google's own client, which blocks.

Each call has time limits of its own that end before the writer in front of the storage gives it up. Writes are tried
once, because that writer retries; reads are retried by the client for a few seconds.

No write is blind. An object that never changes is only ever created: where it is already, its bytes must be the same.
One that does change is replaced only if it still is what this process saw last, so that a write which was given up, but
reaches Google after all, cannot take the place of a newer one; see :mod:`rapidrtmp.storage.generations`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import ObjectInfo
from rapidrtmp.storage.generations import ABSENT, Generations, ObjectWrite
from rapidrtmp.storage.keys import check_key, guess_content_type

__all__ = ["Bucket", "Mark"]

#: For the connection and for each read from it. A write is given up by :class:`WriteBehind` after 30 s.
TIMEOUT_S = (5.0, 20.0)
#: Until it has answered once: a server that starts waits for what its predecessor left, but not for a dead network.
FIRST_TIMEOUT_S = (2.0, 20.0)
READ_RETRY_S = 10.0
#: Larger objects are uploaded in pieces of this size; Google's client knows no other limit.
UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024
#: How often a write is begun again because the object turned out to be another than was thought.
WRITE_ATTEMPTS = 3
SIGNED_FOR_S = 900
#: All that a listing needs to know of an object.
FIELDS = "items(name,size,timeCreated,contentType),nextPageToken"
#: And of a mark, which must be answered soon, or it is late.
MARK_FIELDS = "items(name,generation,updated,metadata),nextPageToken"
MARK_TIMEOUT_S = (3.0, 5.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """
    An empty object with something to say.

    :ivar generation: rises whenever it is written.
    :ivar updated_s: when it was, in seconds since 1970 by Google's clock.
    """

    key: str
    generation: int
    updated_s: float
    metadata: Mapping[str, str]


class Bucket:
    """
    The blocking half: every method belongs in a thread, and may run in many at once.

    :param connect: makes a ``google.cloud.storage.Client``; called with the first use, and again if that failed.
    :param name: of the bucket; it must exist.
    :param prefix: goes before every key; ``""``, or ends in ``/``.
    :ivar generations: what is known of its objects.
    """

    def __init__(self, connect: Callable[[], Any], name: str, prefix: str) -> None:
        self._connect = connect
        self._name = name
        self._prefix = prefix
        self._connecting = Lock()
        self._client: Any = None
        self._has_answered = False
        self.generations = Generations()

    def write(self, write: ObjectWrite) -> None:
        """
        Upload an object whole; it can be read when this returns.

        :raises StorageError: it could not be uploaded; not retryable if it is never to change, and is there with other
            bytes.
        """
        try:
            with self._asking(f"writing {write.key}"):
                self._write(write)
        finally:
            self.generations.end(write)

    def _write(self, write: ObjectWrite) -> None:
        from google.api_core.exceptions import PreconditionFailed

        for _ in range(WRITE_ATTEMPTS):
            data = write.wanted()
            if write.overtaken:
                return  # as if it had been written just before the newer one
            try:
                self._upload(write, data, ABSENT if write.is_immutable else self.generations.of(write.key))
            except PreconditionFailed:
                if self._is_there(write, data):
                    return
            else:
                return
        raise StorageError(f"{write.key}: another process replaces it all the time")

    def _upload(self, write: ObjectWrite, data: bytes, generation: int) -> None:
        """Upload over this generation and no other, in pieces that can be resumed if it is larger than 8 MiB."""
        from google.auth.exceptions import GoogleAuthError

        blob = self._bucket().blob(self._prefix + write.key, chunk_size=UPLOAD_CHUNK_BYTES)
        blob.cache_control = write.cache_control or None
        try:
            blob.upload_from_string(
                data,
                content_type=write.content_type or guess_content_type(write.key),
                if_generation_match=generation,
                timeout=self._timeout_s,
                retry=self._retry() if len(data) > UPLOAD_CHUNK_BYTES else None,
                checksum="crc32c",
            )
        except ValueError as error:
            if isinstance(error, GoogleAuthError):
                raise
            # Google kept a part of a piece, and its client does not resume within one
            raise StorageError(f"writing {write.key}: {error}") from error
        if blob.crc32c is None or blob.generation is None:
            raise StorageError(f"writing {write.key}: the answer does not say what was stored")
        if blob.crc32c != _crc32c(data):
            with suppress(Exception):  # what is worse than its loss: that it stays, under a name that is used once
                blob.delete(if_generation_match=blob.generation, timeout=self._timeout_s, retry=None)
            raise StorageError(f"{write.key}: stored with CRC32C {blob.crc32c}, not {_crc32c(data)}")
        if not write.is_immutable:
            self.generations.saw(write.key, int(blob.generation))

    def _is_there(self, write: ObjectWrite, data: bytes) -> bool:
        """Whether the object that is in the way of a write is what it would make of it."""
        blob = self._get_blob(write.key)
        same = blob is not None and blob.crc32c == _crc32c(data) and blob.size == len(data)
        if not write.is_immutable:
            self.generations.saw(write.key, int(blob.generation) if blob is not None else ABSENT)
        elif blob is not None and not same:
            raise StorageError(f"{write.key}: is never to change, and is there with other bytes", retryable=False)
        return same

    def look(self, key: str) -> tuple[ObjectInfo, int]:
        """What is known of an object, and its generation. :raises NotFoundError: there is none."""
        with self._asking(f"looking at {key}"):
            blob = self._get_blob(key)
            if blob is None:
                raise NotFoundError(f"no object {key!r}")
            return self._info(blob), int(blob.generation)

    def stat(self, key: str) -> ObjectInfo:
        """What is known of an object. :raises NotFoundError: there is none."""
        return self.look(key)[0]

    def read(self, key: str, generation: int, start: int, stop: int) -> bytes:
        """
        The bytes from ``start`` up to ``stop`` of one generation of an object.

        :raises StorageError: also if it was replaced or deleted meanwhile: a reader never gets a mixture.
        """
        from google.api_core.exceptions import NotFound

        with self._asking(f"reading {key}"):
            blob = self._bucket().blob(self._prefix + key, generation=generation)
            try:
                data: bytes = blob.download_as_bytes(
                    start=start,
                    end=stop - 1,
                    raw_download=True,
                    checksum=None,  # Google knows none of a part of an object
                    timeout=self._timeout_s,
                    retry=self._retry(),
                )
            except NotFound as error:
                raise StorageError(f"{key}: replaced or deleted while it was read, at byte {start}") from error
        if len(data) != stop - start:
            raise StorageError(f"{key}: {len(data)} bytes from {start}, not {stop - start}")
        return data

    def find(self, prefix: str) -> list[ObjectInfo]:
        """All objects whose key begins with ``prefix``, sorted by key; names that are no keys are left out."""
        found = []
        with self._asking(f"listing {prefix}"):
            for blob in self._bucket().list_blobs(
                prefix=self._prefix + prefix, fields=FIELDS, timeout=self._timeout_s, retry=self._retry()
            ):
                try:
                    check_key(blob.name[len(self._prefix) :])
                except StorageError:
                    continue  # "folder/", which Google's console makes
                found.append(self._info(blob))
        return sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        from google.api_core.exceptions import NotFound

        with self._asking(f"deleting {key}"):
            try:
                self._bucket().blob(self._prefix + key).delete(timeout=self._timeout_s, retry=None)
            except NotFound:
                pass

    # ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def mark(self, key: str, metadata: Mapping[str, str], over: int) -> Mark | None:
        """
        Write a mark over the generation ``over``; ``None`` if another is there.

        :raises StorageError: it may have been written all the same.
        """
        from google.api_core.exceptions import PreconditionFailed

        with self._asking(f"writing {key}"):
            blob = self._bucket().blob(self._prefix + key)
            blob.metadata = dict(metadata)
            blob.cache_control = "no-store"
            try:
                blob.upload_from_string(
                    b"",
                    content_type="application/byte-stream",
                    if_generation_match=over,
                    timeout=MARK_TIMEOUT_S,
                    retry=None,
                )
            except PreconditionFailed:
                return None
            return self._as_mark(blob)

    def find_mark(self, key: str) -> Mark | None:
        """A mark; ``None`` if there is none."""
        with self._asking(f"looking at {key}"):
            blob = self._bucket().get_blob(self._prefix + key, timeout=MARK_TIMEOUT_S, retry=None)
            return None if blob is None else self._as_mark(blob)

    def marks(self, prefix: str) -> list[Mark]:
        """All marks whose key begins with ``prefix``."""
        with self._asking(f"listing {prefix}"):
            blobs = self._bucket().list_blobs(
                prefix=self._prefix + prefix, fields=MARK_FIELDS, timeout=MARK_TIMEOUT_S, retry=self._retry()
            )
            return [self._as_mark(blob) for blob in blobs]

    def unmark(self, key: str, generation: int) -> bool:
        """Delete a mark of that generation; whether it was there."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with self._asking(f"deleting {key}"):
            blob = self._bucket().blob(self._prefix + key)
            try:
                blob.delete(if_generation_match=generation, timeout=MARK_TIMEOUT_S, retry=None)
            except (NotFound, PreconditionFailed):
                return False
            return True

    def _as_mark(self, blob: Any) -> Mark:
        key = blob.name[len(self._prefix) :]
        return Mark(key, int(blob.generation), blob.updated.timestamp(), dict(blob.metadata or {}))

    def signed_url(self, key: str) -> str | None:
        """Where any client can read an object for :data:`SIGNED_FOR_S`; ``None`` if these credentials cannot sign."""
        with self._asking(f"signing {key}"):
            credentials = self._client_now()._credentials
            if getattr(credentials, "signer", None) is None:
                return None
            url: str = (
                self._bucket()
                .blob(self._prefix + key)
                .generate_signed_url(
                    version="v4",
                    expiration=timedelta(seconds=SIGNED_FOR_S),
                    api_access_endpoint=self._client._connection.API_BASE_URL,
                    credentials=credentials,
                )
            )
            return url

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _client_now(self) -> Any:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _bucket(self) -> Any:
        return self._client_now().bucket(self._name)

    def _get_blob(self, key: str) -> Any:
        return self._bucket().get_blob(self._prefix + key, timeout=self._timeout_s, retry=self._retry())

    @property
    def _timeout_s(self) -> tuple[float, float]:
        return TIMEOUT_S if self._has_answered else FIRST_TIMEOUT_S

    def _retry(self) -> Any:
        """For reads: for some seconds, but not where nothing has ever been reached."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(READ_RETRY_S) if self._has_answered else None

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what Google's libraries raise into a ``StorageError``, and note whether there was an answer."""
        from google.api_core.exceptions import ClientError

        with _storage_errors(doing):
            try:
                yield
            except (ClientError, NotFoundError):
                self._has_answered = True
                raise
            self._has_answered = True

    def _info(self, blob: Any) -> ObjectInfo:
        key = blob.name[len(self._prefix) :]
        modified_ms = round(blob.time_created.timestamp() * 1000)
        if type(blob.size) is not int or blob.size < 0:
            raise ValueError(f"{key} of {blob.size!r} bytes")
        return ObjectInfo(key, blob.size, modified_ms, blob.content_type or guess_content_type(key))


def _crc32c(data: bytes) -> str:
    """As Google writes it."""
    from google_crc32c import value

    of_bytes: Callable[[bytes], int] = value
    return b64encode(of_bytes(data).to_bytes(4, "big")).decode()


#: What Google's client raises about an answer with the status 200 that is not Google's, such as the page of a portal.
_NONSENSE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


@contextmanager
def _storage_errors(doing: str) -> Iterator[None]:
    """Turn what Google's libraries raise into a ``StorageError``."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, OSError) as error:
        raise StorageError(f"{doing}: {error}", retryable=_may_pass(error)) from error
    except _NONSENSE as error:
        raise StorageError(f"{doing}: the answer makes no sense: {error!r:.200}") from error


def _may_pass(error: Exception) -> bool:
    """
    Whether the same call may succeed later.

    Not after an answer with a status of 4xx (no such bucket, not permitted), but for 408, 429, and the 400 that tells
    of bytes that do not match their checksum. Nor with credentials that Google refuses. All else is the network, an
    overload, or a transfer that was damaged; and where there are no credentials, the service that gives them out may
    start later than this server.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, InvalidOperation, TransportError

    if isinstance(error, RetryError):
        return True
    if isinstance(error, GoogleAPICallError):
        return error.code in (None, 408, 429) or error.code >= 500 or "crc32c" in str(error).lower()
    if isinstance(error, GoogleAuthError):
        if isinstance(error, InvalidOperation):  # anonymous ones, refused
            return False
        return isinstance(error, (TransportError, DefaultCredentialsError)) or bool(error.retryable)
    return True
