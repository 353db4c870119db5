"""
Objects by key in a bucket of Google Cloud Storage.

Credentials are a key file, or what Google's own tools would find (application default credentials, and so Workload
Identity), and ``STORAGE_EMULATOR_HOST`` sends everything to an emulator. The client blocks, so each call is made in a
thread; :mod:`rapidrtmp.storage.bucket` says how.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError, StorageError
from rapidrtmp.interfaces import (
    ILeasingStorage,
    IPacedStorage,
    IStorage,
    IStorageFactory,
    IStorageRedirect,
    ObjectInfo,
    StorageContext,
    StoredObject,
)
from rapidrtmp.storage.bucket import Bucket
from rapidrtmp.storage.bucket_leases import LEASE_S, RENEW_INTERVAL_S, BucketLeases
from rapidrtmp.storage.generations import ObjectWrite
from rapidrtmp.storage.keys import byte_range, check_key
from rapidrtmp.storage.threaded import ThreadedStorage

__all__ = ["GcsStorage", "GcsStorageFactory"]

CHUNK_BYTES = 1024 * 1024
#: Kept open for the threads of a storage.
CONNECTIONS = 24
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


@implementer(IStorage, ILeasingStorage, IPacedStorage, IStorageRedirect)
class GcsStorage(ThreadedStorage):
    """
    Objects in a bucket; each is put with its content type and cache rule, so that the bucket can serve players.

    What is put as ``IMMUTABLE`` cannot be put with other bytes: a ``StorageError``, not retryable.

    :param bucket: does the work.
    :param context: where blocking calls run, and whose leases these are (:mod:`~rapidrtmp.storage.bucket_leases`).
    :param redirects: whether clients may be sent to the bucket.
    """

    replace_interval_s = 1.0
    lease_s = LEASE_S
    renew_interval_s = RENEW_INTERVAL_S

    def __init__(self, bucket: Bucket, context: StorageContext, *, redirects: bool = False) -> None:
        self._bucket = bucket
        self._names = BucketLeases(bucket, context.process)
        self._redirects = redirects
        super().__init__(self._names, context)

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """
        Upload an object, once; the caller retries.

        Cancelled, it can still happen, but not once a newer ``put`` of the key has.
        """
        return Deferred.fromCoroutine(self._put(key, bytes(data), content_type, cache_control))

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """Look at an object; it is downloaded in ranges of at most 1 MiB, as they are asked for."""
        return Deferred.fromCoroutine(self._get(key, start, length))

    def stat(self, key: str) -> Deferred[ObjectInfo]:
        """What is known of an object."""
        return self._of_key(self._bucket.stat, key, self._in_read_thread)

    def list(self, prefix: str) -> Deferred[list[ObjectInfo]]:
        """List, page by page; a prefix that no key begins with is not asked for."""
        return self._in_read_thread(self._bucket.find, prefix)

    def delete(self, key: str) -> Deferred[None]:
        """Delete an object, once; the caller retries."""
        self._bucket.generations.delete(key)
        return self._of_key(self._bucket.delete, key, self._in_thread)

    def redirect_url(self, key: str) -> Deferred[str | None]:
        """A signed URL, where redirects are chosen and the credentials can sign."""
        return self._of_key(self._bucket.signed_url, key, self._in_read_thread) if self._redirects else succeed(None)

    def close(self) -> Deferred[None]:
        """Give all leases back, and close the connections."""
        return self._in_lease_thread(self._close)

    def _close(self) -> None:
        self._names.close()
        self._bucket.close()

    async def _put(self, key: str, data: bytes, content_type: str, cache_control: str) -> None:
        write = ObjectWrite(check_key(key), data, content_type, cache_control)
        self._bucket.generations.begin(write)
        await self._in_thread(self._bucket.write, write).addErrback(write.give_up)

    async def _get(self, key: str, start: int, length: int | None) -> StoredObject:
        info, generation = await self._in_read_thread(self._bucket.look, check_key(key))
        first, stop = byte_range(info.size, start, length)
        return StoredObject(info, self._chunks(key, generation, first, stop))

    async def _chunks(self, key: str, generation: int, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            chunk = await self._in_read_thread(
                self._bucket.read, key, generation, start, min(start + CHUNK_BYTES, stop)
            )
            start += len(chunk)
            yield chunk


@implementer(IStorageFactory)
class GcsStorageFactory:
    """
    Behind the spec ``gcs:BUCKET:prefix=streams:credentials=/etc/rapidrtmp/key.json:read=redirect``.

    :param bucket: its name.
    :param prefix: goes before every key, with a slash between.
    :param project: Google's project, where the credentials do not imply it.
    :param endpoint: the URL of another server that speaks the same API; over plain ``http`` no credentials are sent.
    :param credentials: the key file of a service account; without one, Google's own ways to find credentials.
    :param read: ``proxy``: clients read everything through this server; ``redirect``: recorded media that is one object
        is fetched from the bucket, by a signed URL, where the credentials can sign.
    """

    persistent = True

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        project: str = "",
        endpoint: str = "",
        credentials: str = "",
        read: str = "proxy",
    ) -> None:
        if not bucket:
            raise ConfigurationError("gcs: names no bucket")
        if read not in ("proxy", "redirect"):
            raise ConfigurationError(f"gcs: read={read}: proxy or redirect")
        self._name = bucket
        self._prefix = f"{check_prefix(prefix)}/" if prefix.strip("/") else ""
        self._project = project
        self._endpoint = endpoint
        self._credentials = os.path.abspath(os.path.expanduser(credentials)) if credentials else ""
        self._redirects = read == "redirect"

    def create(self, context: StorageContext) -> GcsStorage:
        """
        Make the storage; the client is made in a thread with the first call, as looking for credentials may take long.

        :raises ConfigurationError: no client library, or no key file where one is named.
        """
        try:
            import google.cloud.storage  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(f"gcs:{self._name}: needs `pip install rapidrtmp[gcs]` ({error})") from error
        if self._credentials and not os.access(self._credentials, os.R_OK):
            raise ConfigurationError(f"gcs:{self._name}: cannot read the key file {self._credentials}")
        bucket = Bucket(self._connect, self._name, self._prefix)
        return GcsStorage(bucket, context, redirects=self._redirects)

    def _connect(self) -> Any:
        """Make a client. :raises StorageError: the key file is none. What Google raises passes."""
        from google.cloud.storage import Client
        from google.oauth2.service_account import Credentials
        from requests.adapters import HTTPAdapter

        settings: dict[str, Any] = {"project": self._project} if self._project else {}
        if self._credentials:
            try:
                settings["credentials"] = Credentials.from_service_account_file(self._credentials, scopes=[SCOPE])
            except (ValueError, OSError) as error:
                raise StorageError(f"{self._credentials} is no key file: {error}", retryable=False) from error
        if self._endpoint:
            settings["client_options"] = {"api_endpoint": self._endpoint}
            settings["use_auth_w_custom_endpoint"] = not self._endpoint.startswith("http://")
        client = Client(**settings)
        client._http.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))  # the default closes all but ten
        return client


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` without slashes around it. :raises ConfigurationError: no key could begin with it."""
    try:
        return check_key(prefix.strip("/"))
    except StorageError as error:
        raise ConfigurationError(f"gcs: prefix: {error}") from error
