"""
Objects by key in a bucket of Google Cloud Storage.

Credentials are found the way Google's own tools find them (application default credentials), and
``STORAGE_EMULATOR_HOST`` sends everything to an emulator. The client is Google's, which blocks: each call is made in a
thread, with time limits of its own that end before the writer in front of the storage gives it up. Writes are tried
once, because that writer retries; reads are retried by the client for a few seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError, NotFoundError, StorageError
from rapidrtmp.interfaces import IStorage, IStorageFactory, ObjectInfo, StorageContext, StoredObject
from rapidrtmp.storage.keys import byte_range, check_key, guess_content_type

__all__ = ["GcsStorage", "GcsStorageFactory"]

CHUNK_BYTES = 1024 * 1024
#: For the connection and for each read from it. A write is given up by :class:`WriteBehind` after 30 s.
TIMEOUT_S = (5.0, 20.0)
READ_RETRY_S = 10.0
#: All that a listing needs to know of an object.
FIELDS = "items(name,size,timeCreated,contentType),nextPageToken"


class Bucket:
    """
    The blocking half: every method belongs in a thread, and may run in many at once.

    :param client: a ``google.cloud.storage.Client``.
    :param name: of the bucket; it must exist.
    :param prefix: goes before every key; ``""``, or ends in ``/``.
    """

    def __init__(self, client: Any, name: str, prefix: str) -> None:
        from google.cloud.storage.retry import DEFAULT_RETRY

        self._client = client
        self._bucket = client.bucket(name)
        self._prefix = prefix
        self._retry = DEFAULT_RETRY.with_timeout(READ_RETRY_S)

    def write(self, key: str, data: bytes, content_type: str, cache_control: str) -> None:
        """Upload an object whole; it can be read when this returns."""
        blob = self._bucket.blob(self._prefix + key)
        blob.cache_control = cache_control or None
        with _told_as_ours(f"writing {key}"):
            blob.upload_from_string(
                data,
                content_type=content_type or guess_content_type(key),
                timeout=TIMEOUT_S,
                retry=None,
                checksum="crc32c",
            )

    def look(self, key: str) -> tuple[ObjectInfo, int]:
        """What is known of an object, and its generation. :raises NotFoundError: there is none."""
        with _told_as_ours(f"looking at {key}"):
            blob = self._bucket.get_blob(self._prefix + key, timeout=TIMEOUT_S, retry=self._retry)
        if blob is None:
            raise NotFoundError(f"no object {key!r}")
        return self._info(blob), blob.generation

    def stat(self, key: str) -> ObjectInfo:
        """What is known of an object. :raises NotFoundError: there is none."""
        return self.look(key)[0]

    def read(self, key: str, generation: int, start: int, stop: int) -> bytes:
        """
        The bytes from ``start`` up to ``stop`` of one generation of an object.

        :raises StorageError: also if it was replaced or deleted meanwhile: a reader never gets a mixture.
        """
        from google.api_core.exceptions import NotFound

        blob = self._bucket.blob(self._prefix + key, generation=generation)
        with _told_as_ours(f"reading {key}"):
            try:
                data: bytes = blob.download_as_bytes(
                    start=start,
                    end=stop - 1,
                    raw_download=True,
                    checksum=None,  # Google knows none of a part of an object
                    timeout=TIMEOUT_S,
                    retry=self._retry,
                )
            except NotFound as error:
                raise StorageError(f"{key}: replaced or deleted while it was read, at byte {start}") from error
        if len(data) != stop - start:
            raise StorageError(f"{key}: {len(data)} bytes from {start}, not {stop - start}")
        return data

    def find(self, prefix: str) -> list[ObjectInfo]:
        """All objects whose key begins with ``prefix``, sorted by key; names that are no keys are left out."""
        found = []
        with _told_as_ours(f"listing {prefix}"):
            for blob in self._bucket.list_blobs(
                prefix=self._prefix + prefix, fields=FIELDS, timeout=TIMEOUT_S, retry=self._retry
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

        with _told_as_ours(f"deleting {key}"):
            try:
                self._bucket.blob(self._prefix + key).delete(timeout=TIMEOUT_S, retry=None)
            except NotFound:
                pass

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _info(self, blob: Any) -> ObjectInfo:
        key = blob.name[len(self._prefix) :]
        modified_ms = round(blob.time_created.timestamp() * 1000)
        return ObjectInfo(key, blob.size, modified_ms, blob.content_type or guess_content_type(key))


@implementer(IStorage)
class GcsStorage:
    """
    Objects in a bucket; each is put with its content type and cache rule, so that the bucket can serve players.

    :param bucket: does the work.
    :param in_thread: runs a blocking call elsewhere; see :class:`~rapidrtmp.interfaces.StorageContext`.
    """

    def __init__(self, bucket: Bucket, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._bucket = bucket
        self._in_thread = in_thread

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """Upload an object, once; the caller retries."""
        return self._of_key(self._bucket.write, key, bytes(data), content_type, cache_control)

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """Look at an object; it is downloaded in ranges of at most 1 MiB, as they are asked for."""
        return Deferred.fromCoroutine(self._get(key, start, length))

    def stat(self, key: str) -> Deferred[ObjectInfo]:
        """What is known of an object."""
        return self._of_key(self._bucket.stat, key)

    def list(self, prefix: str) -> Deferred[list[ObjectInfo]]:
        """List, page by page; a prefix that no key begins with is not asked for."""
        return self._in_thread(self._bucket.find, prefix)

    def delete(self, key: str) -> Deferred[None]:
        """Delete an object, once; the caller retries."""
        return self._of_key(self._bucket.delete, key)

    def close(self) -> Deferred[None]:
        """Close the connections."""
        return self._in_thread(self._bucket.close)

    async def _get(self, key: str, start: int, length: int | None) -> StoredObject:
        info, generation = await self._in_thread(self._bucket.look, check_key(key))
        first, stop = byte_range(info.size, start, length)
        return StoredObject(info, self._chunks(key, generation, first, stop))

    async def _chunks(self, key: str, generation: int, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            chunk = await self._in_thread(self._bucket.read, key, generation, start, min(start + CHUNK_BYTES, stop))
            start += len(chunk)
            yield chunk

    def _of_key(self, work: Callable[..., Any], key: str, *args: Any) -> Deferred[Any]:
        async def carry_out() -> Any:
            return await self._in_thread(work, check_key(key), *args)

        return Deferred.fromCoroutine(carry_out())


@implementer(IStorageFactory)
class GcsStorageFactory:
    """
    Behind the spec ``gcs:BUCKET:prefix=streams``.

    :param bucket: its name.
    :param prefix: goes before every key, with a slash between.
    :param project: Google's project, where the credentials do not imply it.
    :param endpoint: the URL of another server that speaks the same API; over plain ``http`` no credentials are sent.
    """

    persistent = True

    def __init__(self, bucket: str, prefix: str = "", project: str = "", endpoint: str = "") -> None:
        if not bucket:
            raise ConfigurationError("gcs: names no bucket")
        self._name = bucket
        self._prefix = f"{check_prefix(prefix)}/" if prefix.strip("/") else ""
        self._project = project
        self._endpoint = endpoint

    def create(self, context: StorageContext) -> GcsStorage:
        """
        Make the client; it connects with the first call.

        :raises ConfigurationError: no client library, or no credentials.
        """
        try:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud.storage import Client
        except ImportError as error:
            raise ConfigurationError(f"gcs:{self._name}: needs `pip install rapidrtmp[gcs]` ({error})") from error
        settings: dict[str, Any] = {"project": self._project} if self._project else {}
        if self._endpoint:
            settings["client_options"] = {"api_endpoint": self._endpoint}
            settings["use_auth_w_custom_endpoint"] = not self._endpoint.startswith("http://")
        try:
            client = Client(**settings)
        except DefaultCredentialsError as error:
            raise ConfigurationError(f"gcs:{self._name}: {error}") from error
        return GcsStorage(Bucket(client, self._name, self._prefix), context.in_thread)


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` without slashes around it. :raises ConfigurationError: no key could begin with it."""
    try:
        return check_key(prefix.strip("/"))
    except StorageError as error:
        raise ConfigurationError(f"gcs: prefix: {error}") from error


@contextmanager
def _told_as_ours(doing: str) -> Iterator[None]:
    """Turn what Google's libraries raise into a ``StorageError``."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, OSError) as error:
        raise StorageError(f"{doing}: {error}", retryable=_may_pass(error)) from error


def _may_pass(error: Exception) -> bool:
    """
    Whether the same call may succeed later.

    Not after an answer with a status of 4xx (no such bucket, not permitted), 408 and 429 excepted; nor with credentials
    that Google refuses. All else is the network, an overload, or a transfer that was damaged.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, RetryError):
        return True
    if isinstance(error, GoogleAPICallError):
        return error.code in (None, 408, 429) or error.code >= 500
    if isinstance(error, GoogleAuthError):
        return isinstance(error, TransportError) or bool(error.retryable)
    return True
