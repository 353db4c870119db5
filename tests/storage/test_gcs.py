"""Tests of the storage in a bucket: through Google's own client, against an emulator on loopback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from unittest import SkipTest
from unittest.mock import Mock, patch
from urllib.request import urlopen

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import ConfigurationError, NotFoundError, StorageError
from rapidrtmp.interfaces import IMMUTABLE, IStorageFactory, StorageContext
from rapidrtmp.storage.gcs import CHUNK_BYTES, GcsStorage, GcsStorageFactory
from rapidrtmp.storage.generations import ObjectWrite
from rapidrtmp.testing.storage import StorageContract, read_all
from tests.slow import slow

try:
    import google.cloud.storage as google_storage

    from tests.storage.emulator import emulator_url
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage and gcp-storage-emulator: {error}"
else:
    missing = None

CONTEXT = StorageContext(maybeDeferred, Clock(), Logger())


class Case(SynchronousTestCase):
    """Has the emulator named in the environment; each storage has a prefix of its own."""

    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)
        environment = patch.dict(os.environ, {"STORAGE_EMULATOR_HOST": emulator_url()})
        environment.start()
        self.addCleanup(environment.stop)

    def make_storage(self, **settings: str) -> GcsStorage:
        return GcsStorageFactory("bucket", **{"prefix": f"{self.id()}/streams", **settings}).create(CONTEXT)


@slow
class GcsStorageContractTests(Case, StorageContract, TestCase):
    """The contract every storage keeps."""


class GcsStorageTests(Case):
    """What is said of this storage alone."""

    def put(self, storage: GcsStorage, key: str, data: bytes = b"x") -> None:
        self.successResultOf(storage.put(key, data, "video/mp4", IMMUTABLE))

    def blob(self, name: str) -> Any:
        return google_storage.Client().bucket("bucket").get_blob(name)

    def test_what_the_bucket_serves(self) -> None:
        """An object carries its content type and cache rule, under the prefix."""
        storage = self.make_storage(prefix="/served/by/")
        self.successResultOf(storage.put("live/a.m3u8", b"#EXTM3U\n", "application/vnd.apple.mpegurl", "no-cache"))
        blob = self.blob("served/by/live/a.m3u8")
        self.assertEqual(("application/vnd.apple.mpegurl", "no-cache"), (blob.content_type, blob.cache_control))
        self.assertEqual(b"#EXTM3U\n", blob.download_as_bytes())

    def test_types_left_open(self) -> None:
        """A content type that was not given follows from the key."""
        storage = self.make_storage()
        self.successResultOf(storage.put("a.m4s", b"x", "", ""))
        self.assertEqual("video/iso.segment", self.successResultOf(storage.stat("a.m4s")).content_type)

    def test_without_prefix_all_is_ours(self) -> None:
        """Without a prefix the bucket is all ours."""
        storage = self.make_storage(prefix="")
        self.put(storage, "root-object")
        self.assertIsNotNone(self.blob("root-object"))
        self.assertIn("root-object", [info.key for info in self.successResultOf(storage.list("root"))])

    def test_prefix_is_a_folder(self) -> None:
        """What begins with the letters of the prefix, but is not below it, is not ours."""
        self.put(self.make_storage(prefix="neighbours-too"), "theirs")
        self.assertEqual([], self.successResultOf(self.make_storage(prefix="neighbours").list("")))

    def test_names_that_are_no_keys(self) -> None:
        """A folder made in Google's console is not listed."""
        google_storage.Client().bucket("bucket").blob("console/folder/").upload_from_string(b"")
        storage = self.make_storage(prefix="console")
        self.put(storage, "folder/object")
        self.assertEqual(["folder/object"], [info.key for info in self.successResultOf(storage.list(""))])

    def test_endpoint_is_named_in_the_spec(self) -> None:
        """Another server of the same API can be named in the spec; over plain http no credentials are looked for."""
        with patch.dict(os.environ):
            del os.environ["STORAGE_EMULATOR_HOST"]
            storage = self.make_storage(endpoint=emulator_url(), project="any")
            self.put(storage, "a", b"there")
        stored = self.successResultOf(storage.get("a"))
        self.assertEqual(b"there", self.successResultOf(Deferred.fromCoroutine(read_all(stored))))

    def test_chunks_of_a_large_object(self) -> None:
        """A large object is downloaded in ranges of at most 1 MiB."""
        storage = self.make_storage()
        self.put(storage, "a", bytes(2 * CHUNK_BYTES + 5))

        async def sizes() -> list[int]:
            return [len(chunk) async for chunk in (await storage.get("a", 1)).chunks]

        self.assertEqual([CHUNK_BYTES, CHUNK_BYTES, 4], self.successResultOf(Deferred.fromCoroutine(sizes())))

    def test_deleted_while_read(self) -> None:
        """A reader whose object is deleted in the middle gets an error."""
        storage = self.make_storage()
        self.put(storage, "a", bytes(CHUNK_BYTES + 5))
        stored = self.successResultOf(storage.get("a"))
        self.successResultOf(storage.delete("a"))
        self.failureResultOf(Deferred.fromCoroutine(read_all(stored)), StorageError)

    def test_no_such_bucket(self) -> None:
        """Writing to a bucket that does not exist fails for good."""
        storage = GcsStorageFactory("there-is-no-such-bucket").create(CONTEXT)
        error = self.failureResultOf(storage.put("a", b"x", "", ""), StorageError).value
        self.assertFalse(error.retryable, error)

    def test_unreachable_server_is_retried(self) -> None:
        """A server that cannot be reached is worth a retry."""
        with patch("rapidrtmp.storage.bucket.READ_RETRY_S", 0.0):
            storage = self.make_storage(endpoint="http://127.0.0.1:1")
        for call in (storage.put("a", b"x", "", ""), storage.delete("a"), storage.stat("a")):
            self.assertTrue(self.failureResultOf(call, StorageError).value.retryable)


class WriteTests(Case):
    """No write is blind."""

    def put(self, storage: GcsStorage, data: bytes, cache_control: str = "no-cache") -> Deferred[None]:
        return storage.put("a", data, "", cache_control)

    def stored(self, storage: GcsStorage) -> bytes:
        return self.successResultOf(Deferred.fromCoroutine(read_all(self.successResultOf(storage.get("a")))))

    def held_storage(self) -> tuple[GcsStorage, list[Callable[[], None]]]:
        """A storage whose calls are carried out when the test says so, even if they were given up, as threads do."""
        storage, calls = self.make_storage(), []

        def in_thread(work: Callable[..., Any], *args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            calls.append(lambda: maybeDeferred(work, *args).chainDeferred(done))
            return done

        storage._in_thread = in_thread
        return storage, calls

    def test_immutable_object_is_put_twice(self) -> None:
        """What never changes can be put again with the same bytes, as after an answer that was lost, and no others."""
        storage = self.make_storage()
        for _ in range(2):
            self.successResultOf(self.put(storage, b"same", IMMUTABLE))
        error = self.failureResultOf(self.put(storage, b"else", IMMUTABLE), StorageError).value
        self.assertFalse(error.retryable)
        self.assertEqual(b"same", self.stored(storage))

    def test_after_restart_objects_are_replaced(self) -> None:
        """A process that knows nothing of an object replaces what another one left."""
        self.successResultOf(self.put(self.make_storage(), b"old"))
        storage = self.make_storage()
        for data in (b"new", b"newer"):
            self.successResultOf(self.put(storage, data))
            self.assertEqual(data, self.stored(storage))
        self.successResultOf(storage.delete("a"))
        self.successResultOf(self.put(storage, b"again"))
        self.assertEqual(b"again", self.stored(storage))

    def test_late_write_never_happens(self) -> None:
        """A write that was given up and had not begun never happens."""
        storage, calls = self.held_storage()
        late = self.put(storage, b"late")
        late.cancel()
        self.failureResultOf(late, CancelledError)
        newer = self.put(storage, b"newer")
        calls[1]()
        calls[0]()
        self.successResultOf(newer)
        storage._in_thread = maybeDeferred
        self.assertEqual(b"newer", self.stored(storage))

    def test_late_upload_loses_its_place(self) -> None:
        """A write that was already on its way when a newer one was made does not take its place."""
        storage = self.make_storage()
        self.successResultOf(self.put(storage, b"first"))
        upload, newer = storage._bucket._upload, []

        def on_its_way(write: ObjectWrite, data: bytes, generation: int) -> None:
            storage._bucket._upload = upload
            newer.append(self.put(storage, b"newer"))
            upload(write, data, generation)

        storage._bucket._upload = on_its_way
        self.successResultOf(self.put(storage, b"late"))
        self.successResultOf(newer[0])
        self.assertEqual(b"newer", self.stored(storage))

    def test_damaged_object_is_removed_again(self) -> None:
        """What is stored with another checksum than was sent is removed again, and the write can be repeated."""
        storage = self.make_storage()
        with patch("rapidrtmp.storage.bucket._crc32c", return_value="else"):
            error = self.failureResultOf(self.put(storage, b"bytes", IMMUTABLE), StorageError).value
        self.assertTrue(error.retryable)
        self.failureResultOf(storage.stat("a"), NotFoundError)
        self.successResultOf(self.put(storage, b"bytes", IMMUTABLE))

    def test_large_object_in_pieces(self) -> None:
        """An object of more than 8 MiB is uploaded in pieces, under the same conditions."""
        storage = self.make_storage()
        data = bytes(range(256)) * 40_000
        for _ in range(2):
            self.successResultOf(self.put(storage, data, IMMUTABLE))
        self.assertEqual(data, self.stored(storage))
        self.failureResultOf(self.put(storage, data[:-1], IMMUTABLE), StorageError)


class RedirectTests(Case):
    """Sending clients to the bucket."""

    def key_file(self) -> str:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        path = self.mktemp()
        with open(path, "w") as file:
            json.dump(
                {
                    "type": "service_account",
                    "client_email": "server@example.com",
                    "token_uri": "http://127.0.0.1:1",
                    "private_key": pem,
                    "project_id": "any",
                },
                file,
            )
        return path

    def test_signed_url_needs_no_credentials(self) -> None:
        """With a key file, anyone can fetch an object under the URL, from the bucket itself."""
        self.successResultOf(self.make_storage().put("a b.m4s", b"there", "", IMMUTABLE))
        storage = self.make_storage(credentials=self.key_file(), read="redirect")
        url = self.successResultOf(storage.redirect_url("a b.m4s"))
        self.assertIn("X-Goog-Signature=", url)
        self.assertEqual(b"there", urlopen(url).read())

    def test_redirects_are_not_the_default(self) -> None:
        """Unless redirects are chosen, everything is read through the server."""
        storage = self.make_storage(credentials=self.key_file())
        self.assertIsNone(self.successResultOf(storage.redirect_url("a")))

    def test_can_not_sign(self) -> None:
        """Credentials that cannot sign leave everything to the server."""
        self.assertIsNone(self.successResultOf(self.make_storage(read="redirect").redirect_url("a")))


class FailureTests(SynchronousTestCase):
    """What Google's exceptions mean."""

    def failing(self, error: Exception) -> GcsStorage:
        if missing:
            raise SkipTest(missing)
        storage = GcsStorageFactory("bucket").create(CONTEXT)
        blob = Mock(upload_from_string=Mock(side_effect=error), delete=Mock(side_effect=error))
        self.bucket = Mock(
            blob=Mock(return_value=blob), get_blob=Mock(side_effect=error), list_blobs=Mock(side_effect=error)
        )
        storage._bucket._client = Mock(bucket=Mock(return_value=self.bucket))
        return storage

    def assert_told(self, error: Exception, retryable: bool) -> None:
        storage = self.failing(error)
        calls: tuple[Callable[[], Deferred[Any]], ...] = (
            lambda: storage.put("a", b"x", "", ""),
            lambda: storage.get("a"),
            lambda: storage.stat("a"),
            lambda: storage.list(""),
            lambda: storage.delete("a"),
        )
        for call in calls:
            told = self.failureResultOf(call(), StorageError).value
            self.assertEqual(retryable, told.retryable, repr(error))
            self.assertIs(error, told.__cause__)

    def test_worth_a_retry(self) -> None:
        """Overload, Google's own failures, timeouts and a broken network may pass."""
        from google.api_core import exceptions
        from google.auth.exceptions import TransportError
        from google.cloud.storage.exceptions import DataCorruption
        from requests.exceptions import ConnectionError, ReadTimeout

        for error in (
            exceptions.TooManyRequests("slow down"),
            exceptions.InternalServerError("oops"),
            exceptions.ServiceUnavailable("later"),
            exceptions.GatewayTimeout("late"),
            exceptions.from_http_status(408, "late"),
            exceptions.RetryError("tried", None),
            TransportError("no token server"),
            DataCorruption(None, "checksum"),
            ConnectionError("reset"),
            ReadTimeout("silence"),
        ):
            self.assert_told(error, retryable=True)

    def test_not_worth_it(self) -> None:
        """What Google refuses, it refuses again."""
        from google.api_core import exceptions
        from google.auth.exceptions import RefreshError

        for error in (
            exceptions.Forbidden("no"),
            exceptions.Unauthorized("who"),
            exceptions.BadRequest("what"),
            RefreshError("revoked"),
        ):
            self.assert_told(error, retryable=False)

    def test_missing_object_is_not_found(self) -> None:
        """An object that is not there is deleted without complaint, and not found."""
        from google.api_core.exceptions import NotFound

        storage = self.failing(NotFound("404"))
        self.successResultOf(storage.delete("a"))
        self.bucket.get_blob = Mock(return_value=None)
        self.failureResultOf(storage.stat("a"), NotFoundError)


class FactoryTests(SynchronousTestCase):
    """Starting up."""

    def test_factory_provides_the_interface(self) -> None:
        """The factory provides IStorageFactory; what it stores outlives the process."""
        factory = GcsStorageFactory("bucket")
        verifyObject(IStorageFactory, factory)
        self.assertTrue(factory.persistent)

    def test_bad_arguments_stop_the_start(self) -> None:
        """No bucket, or a prefix that no key could begin with, stops the start."""
        self.assertRaises(ConfigurationError, GcsStorageFactory, "")
        self.assertRaises(ConfigurationError, GcsStorageFactory, "bucket", "a/../b")
        self.assertRaises(ConfigurationError, GcsStorageFactory, "bucket", prefix="back\\slash")
        self.assertRaises(ConfigurationError, GcsStorageFactory, "bucket", read="elsewhere")

    def test_missing_library_stops_the_start(self) -> None:
        """Without the client library the start stops and says what to install."""
        with patch.dict(sys.modules, {"google.cloud.storage": None}):
            error = self.assertRaises(ConfigurationError, GcsStorageFactory("bucket").create, CONTEXT)
        self.assertIn("rapidrtmp[gcs]", str(error))

    def test_missing_credentials_are_looked_for(self) -> None:
        """Credentials are looked for with each call until there are some: who gives them out may start later."""
        if missing:
            raise SkipTest(missing)
        from google.auth.exceptions import DefaultCredentialsError

        storage = GcsStorageFactory("bucket").create(CONTEXT)
        with patch("google.cloud.storage.Client", side_effect=DefaultCredentialsError("no credentials")):
            error = self.failureResultOf(storage.stat("a"), StorageError).value
        self.assertEqual(("looking at a: no credentials", True), (str(error), error.retryable))
        with patch("google.cloud.storage.Client") as client:
            client().bucket().get_blob.return_value = None
            self.failureResultOf(storage.stat("a"), NotFoundError)

    def test_bad_key_file_fails(self) -> None:
        """A key file that cannot be read stops the start; one that is none fails every call for good."""
        if missing:
            raise SkipTest(missing)
        path = self.mktemp()
        self.assertRaises(ConfigurationError, GcsStorageFactory("bucket", credentials=path).create, CONTEXT)
        with open(path, "w") as file:
            file.write("{}")
        storage = GcsStorageFactory("bucket", credentials=path).create(CONTEXT)
        error = self.failureResultOf(storage.stat("a"), StorageError).value
        self.assertFalse(error.retryable, error)

    @slow
    def test_import_is_light(self) -> None:
        """Nothing of Google's is imported before a storage is made."""
        self.assertNotIn("google_storage", vars(sys.modules["rapidrtmp.storage.gcs"]))
        import subprocess

        script = (
            "import sys, rapidrtmp.storage.gcs as gcs; gcs.GcsStorageFactory('b'); print('google.cloud' in sys.modules)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        shown = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)
        self.assertEqual(b"False", shown.stdout.strip())
