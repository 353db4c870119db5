"""Tests of the directory in Redis and Valkey: the contract, with a real server, and what becomes of that one."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from rapidrtmp.directory.redis import RedisDirectory, RedisDirectoryFactory
from rapidrtmp.errors import ConfigurationError, DirectoryError
from rapidrtmp.interfaces import Claim, IOwnerDirectory, Owner
from rapidrtmp.testing.directory import SharedDirectoryContract, directory_context
from tests.redis_server import RedisServer, find_servers
from tests.slow import slow

PREFIX = "{rapidrtmp}"


class RedisCase(TestCase):
    """A test with a server of its own."""

    server_name = "redis"
    options: tuple[str, ...] = ()
    timeout = 20

    def setUp(self) -> None:
        program = find_servers().get(self.server_name)
        if program is None:
            raise SkipTest(f"{self.server_name}-server is not installed")
        self.server = RedisServer(program, *self.options)
        self.addCleanup(self.server.close)

    def make_factory(self, **options: str) -> RedisDirectoryFactory:
        return RedisDirectoryFactory("127.0.0.1", f"{self.server.port}", **{"lease": "10s", **options})

    def open_directory(self, node: str) -> Deferred[IOwnerDirectory]:
        real: Any = reactor
        return self.make_factory().open(directory_context(node, real))

    async def open_nodes(self, *names: str, lease: str = "10s") -> list[Any]:
        real: Any = reactor
        opened = []
        for name in names:
            directory = await self.make_factory(lease=lease).open(directory_context(name, real))
            self.addCleanup(directory.close)
            opened.append(directory)
        return opened

    async def fails(self, asked: Deferred[Any]) -> str:
        """What a directory that does not answer says."""
        try:
            answer = await asked
        except DirectoryError as error:
            return str(error)
        raise self.failureException(f"it answers {answer}")

    def expire(self, *keys: str) -> None:
        """Let leases end."""
        for key in keys:
            self.server.ask("DEL", f"{PREFIX}:lease:{key}")


@slow
class RedisDirectoryContractTests(RedisCase, SharedDirectoryContract):
    """The contract every directory of several nodes keeps."""

    def kill(self, directory: RedisDirectory) -> None:
        """The leases of a dead process end with time, and so does what says that it lives."""
        directory._link.close()
        self.expire(*directory._owned)
        directory._owned.clear()
        self.server.ask("ZREM", f"{PREFIX}:nodes", directory._member)


@slow
class ValkeyDirectoryContractTests(RedisDirectoryContractTests):
    """The same of Valkey."""

    server_name = "valkey"


@slow
class RedisServerTests(RedisCase):
    """What becomes of names when the server is away, empty, or slow."""

    async def renewed(self, directory: Any) -> list[str]:
        """What is lost by the first renewal that succeeds."""
        while True:
            try:
                return list(await directory.renew())
            except DirectoryError:
                await deferLater(reactor, 0.05)

    async def claimed(self, directory: Any, name: str) -> Any:
        """What becomes of a claim, once it is decided."""
        while True:
            try:
                return await directory.claim(name)
            except DirectoryError:
                await deferLater(reactor, 0.05)

    async def check_away(self, one: Any, other: Any) -> None:
        """With the server away every call fails within a second, with its name."""
        for asked in (one.renew, other.nodes):
            self.assertIn(f"redis 127.0.0.1:{self.server.port}", await self.fails(asked()))
        for asked in (other.claim, other.find, one.release):
            await self.fails(asked("live/free"))

    async def check_back(self, one: Any, other: Any, before: Owner) -> None:
        """The owner has its names again under the same fence, though another node asked for one first."""
        for asked in (other.claim, other.find):
            try:
                found = await asked("live/cam")
            except DirectoryError:
                continue
            self.assertIn(found, (before, Claim(before, is_ours=False)))
        self.assertEqual([], await self.renewed(one))
        claim = await self.claimed(other, "live/cam")
        self.assertEqual((False, before), (claim.is_ours, claim.owner))
        self.assertEqual(before, await one.find("live/cam"))

    async def test_killed_and_empty(self) -> None:
        """After a server that was killed comes back empty, every owner has what it had."""
        one, other = await self.open_nodes("one", "other", lease="1s")
        before = (await one.claim("live/cam")).owner
        self.server.kill()
        await self.check_away(one, other)
        self.server.start()
        await deferLater(reactor, 0.3)
        await self.check_back(one, other, before)

    async def test_server_is_emptied(self) -> None:
        """After a server was emptied every owner has what it had."""
        one, other = await self.open_nodes("one", "other", lease="1s")
        before = (await one.claim("live/cam")).owner
        self.server.ask("FLUSHALL")
        await self.check_back(one, other, before)

    async def test_paused_past_leases(self) -> None:
        """After a server did not answer for longer than leases last, every owner has what it had."""
        one, other = await self.open_nodes("one", "other", lease="600ms")
        before = (await one.claim("live/cam")).owner
        self.server.pause()
        await self.check_away(one, other)
        await deferLater(reactor, 0.7)
        self.server.go_on()
        await deferLater(reactor, 0.3)
        await self.check_back(one, other, before)

    async def test_lease_that_ends(self) -> None:
        """A name that is not renewed can be taken after its lease; the former owner learns it, and finds the new."""
        one, other = await self.open_nodes("one", "other", lease="300ms")
        before = (await one.claim("live/cam")).owner
        until_s = reactor.seconds() + 0.4  # type: ignore[attr-defined]
        while reactor.seconds() < until_s:  # type: ignore[attr-defined]
            await other.renew()
            await deferLater(reactor, 0.05)
        claim = await other.claim("live/cam")
        self.assertEqual((True, before), (claim.is_ours, claim.former))
        self.assertEqual(["live/cam"], list(await one.renew()))
        self.assertEqual([], list(await one.renew()))
        self.assertEqual("other", (await other.find("live/cam")).node)

    async def test_many_names_at_once(self) -> None:
        """More names than one script renews are renewed, and the one that is lost is reported."""
        one, other = await self.open_nodes("one", "other")
        for number in range(1005):
            await one.claim(f"live/{number}")
        before = await other.find("live/1003")
        await other.move("live/1003", before)
        self.assertEqual(["live/1003"], list(await one.renew()))


@slow
class GuardedRedisTests(RedisCase):
    """A server with a password."""

    options = ("--requirepass", "geheim")

    def factory(self, password: str, **options: str) -> RedisDirectoryFactory:
        path = self.server.folder / "password"
        path.write_text(f"{password}\n")
        return self.make_factory(password_file=str(path), **options)

    async def test_password_of_file(self) -> None:
        """The password comes from the file, as it is then; databases are apart."""
        real: Any = reactor
        directories = []
        for number, options in enumerate(({}, {"user": "default"}, {"db": "3"})):
            opened: Any = await self.factory("geheim", **options).open(directory_context(f"{number}", real))
            self.addCleanup(opened.close)
            directories.append(opened)
        self.assertEqual([2, 2, 1], [len(await each.nodes()) for each in directories])

    async def test_password_is_wrong(self) -> None:
        """A wrong password, none, and a file that cannot be read are one line, without the password."""
        real: Any = reactor
        for factory in (self.factory("falsch"), self.make_factory(), self.make_factory(password_file="/nowhere")):
            said = await self.fails(factory.open(directory_context("one", real)))
            self.assertNotIn("falsch", said)
            self.assertNotIn("\n", said)


class RedisSpecTests(SynchronousTestCase):
    def test_arguments_without_sense(self) -> None:
        """What makes no sense in the spec stops the start in one line."""
        for options in ({"port": "x"}, {"db": "-1"}, {"tls": "maybe"}, {"lease": "1ms"}, {"lease": "x"}):
            error = self.assertRaises(ConfigurationError, RedisDirectoryFactory, **options)
            self.assertNotIn("\n", str(error))
