"""
The directory of several machines: leases in Redis or Valkey.

A node owns a name until its lease ends, some seconds after the last renewal. Nothing is lost when the server is: one
that comes back, with what it had or empty, is given again what each node owns, under the fence that it had. For as long
as that may take, names that it knows no owner of are neither found free nor given to any node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from twisted.internet.task import deferLater
from zope.interface import implementer

from rapidrtmp.directory.redis_link import RedisLink, RefusedError
from rapidrtmp.directory.redis_scripts import CLAIM, FIND, LEAVE, MOVE, NAMES, NODES, RELEASE, RENEW
from rapidrtmp.errors import ConfigurationError, DirectoryError, OwnerChangedError
from rapidrtmp.interfaces import Claim, DirectoryContext, IOwnerDirectory, IOwnerDirectoryFactory, Node, Owner
from rapidrtmp.support.trust import read_trust
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["RedisDirectory", "RedisDirectoryFactory"]

#: How long the fence of a name stays that has no owner any more.
KEPT_MS = 86_400_000
#: How many leases one script renews: others wait for it.
MOST_AT_ONCE = 1000
#: How long a server that was away gets nothing decided, in intervals of renewal: by then every node has renewed.
SETTLING = 1.5
#: How often a server that starts tries to reach it, and the pause between.
TRIES, TRY_AGAIN_S = 10, 0.5
_LEAST_LEASE_MS = 300
_LONGEST_ANSWER_S = 1.0
#: What means something in a pattern of keys.
_SPECIAL, _ESCAPED = re.compile(r"[*?\[\]\\^]"), r"\\\g<0>"


@implementer(IOwnerDirectory)
class RedisDirectory:
    """
    See :class:`~rapidrtmp.interfaces.IOwnerDirectory`.

    :param prefix: begins every key.
    """

    def __init__(self, link: RedisLink, prefix: str, lease_ms: int, context: DirectoryContext) -> None:
        self.node = context.node
        self.lease_s = lease_ms / 1000
        self.renew_interval_s = lease_ms / 3000
        self._link = link
        self._prefix = f"{{{prefix}}}"  # braces: all keys are in one slot of a cluster
        self._lease_ms = lease_ms
        self._clock = context.clock
        self._address = context.address
        self._log = context.log
        self._member = json.dumps([context.node, context.address])
        self._owned: dict[str, Owner] = {}
        self._lost: list[str] = []
        self._settled_s = float("-inf")

    def open(self) -> Deferred[IOwnerDirectory]:
        """Make this node known. Fails with ``DirectoryError``."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> IOwnerDirectory:
        await self._enter([])
        opened: IOwnerDirectory = self
        return opened

    # ── IOwnerDirectory ──────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, name: str) -> Deferred[Claim]:
        """See :meth:`IOwnerDirectory.claim <rapidrtmp.interfaces.IOwnerDirectory.claim>`."""
        return Deferred.fromCoroutine(self._claim(name))

    async def _claim(self, name: str) -> Claim:
        what, *said = await self._settled(CLAIM, self._keys(name), [*self._self, self._lease_ms, KEPT_MS])
        if what == "owned":
            owner = _owner(said)
            if owner.node == self.node:
                self._owned[name] = owner
            return Claim(owner, is_ours=owner.node == self.node)
        taken = self._owned[name] = Owner(self.node, self._address, int(said[0]))
        return Claim(taken, is_ours=True, former=_owner(said[1:]) if said[1] else None)

    def move(self, name: str, former: Owner) -> Deferred[Owner]:
        """See :meth:`IOwnerDirectory.move <rapidrtmp.interfaces.IOwnerDirectory.move>`."""
        return Deferred.fromCoroutine(self._move(name, former))

    async def _move(self, name: str, former: Owner) -> Owner:
        arguments = [*self._self, self._lease_ms, KEPT_MS, former.node]
        what, *said = await self._settled(MOVE, self._keys(name), arguments)
        if what == "changed":
            raise OwnerChangedError(f"{former.node} does not own {name} any more")
        owner = self._owned[name] = Owner(self.node, self._address, int(said[0]))
        return owner

    def renew(self) -> Deferred[Sequence[str]]:
        """See :meth:`IOwnerDirectory.renew <rapidrtmp.interfaces.IOwnerDirectory.renew>`."""
        return Deferred.fromCoroutine(self._renew())

    async def _renew(self) -> Sequence[str]:
        names = list(self._owned)
        for at in range(0, max(len(names), 1), MOST_AT_ONCE):
            if not await self._enter(names[at : at + MOST_AT_ONCE]):
                self._settle()
        lost, self._lost = self._lost, []
        return lost

    def release(self, name: str) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.release <rapidrtmp.interfaces.IOwnerDirectory.release>`."""
        return Deferred.fromCoroutine(self._release(name))

    async def _release(self, name: str) -> None:
        self._owned.pop(name, None)  # first: a renewal would claim it again
        await self._link.run(RELEASE, self._keys(name), self._self[:2])

    def abandon(self, name: str) -> None:
        """See :meth:`IOwnerDirectory.abandon <rapidrtmp.interfaces.IOwnerDirectory.abandon>`."""
        self._owned.pop(name, None)

    def find(self, name: str) -> Deferred[Owner | None]:
        """See :meth:`IOwnerDirectory.find <rapidrtmp.interfaces.IOwnerDirectory.find>`."""
        return Deferred.fromCoroutine(self._find(name))

    async def _find(self, name: str) -> Owner | None:
        what, *said = await self._settled(FIND, self._keys(name), self._self, may_be_found=True)
        if what == "free" and self._clock.seconds() < self._settled_s:
            raise self._unsettled()
        return _owner(said) if what == "owned" else None

    def names(self) -> Deferred[Sequence[str]]:
        """See :meth:`IOwnerDirectory.names <rapidrtmp.interfaces.IOwnerDirectory.names>`: every key is looked at."""
        return Deferred.fromCoroutine(self._names())

    async def _names(self) -> Sequence[str]:
        before = f"{self._prefix}:lease:"
        arguments = [*self._self, f"{_SPECIAL.sub(_ESCAPED, before)}*", len(before.encode())]
        _, *names = await self._settled(NAMES, self._keys(""), arguments)
        return sorted(set(names))

    def nodes(self) -> Deferred[Sequence[Node]]:
        """See :meth:`IOwnerDirectory.nodes <rapidrtmp.interfaces.IOwnerDirectory.nodes>`."""
        return Deferred.fromCoroutine(self._nodes())

    async def _nodes(self) -> Sequence[Node]:
        _, *members = await self._settled(NODES, self._keys(""), self._self)
        return sorted((Node(*json.loads(member)) for member in members), key=lambda node: node.name)

    def close(self) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.close <rapidrtmp.interfaces.IOwnerDirectory.close>`."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        try:
            for name in list(self._owned):
                await self._release(name)
            await self._link.run(LEAVE, self._keys(""), self._self)
        except DirectoryError as error:
            self._log.warn("leaving the directory: {error}", error=error)
        self._link.close()

    # ── scripts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _self(self) -> list[str | int]:
        """What begins the arguments of every script."""
        return [self._member, self.node, self._address]

    def _keys(self, name: str) -> list[str]:
        return [f"{self._prefix}:nodes", *self._keys_of(name)]

    def _keys_of(self, name: str) -> tuple[str, str]:
        return f"{self._prefix}:lease:{name}", f"{self._prefix}:last:{name}"

    async def _enter(self, names: Sequence[str]) -> bool:
        """Renew this node and these names; whether the server knew the node."""
        keys = [f"{self._prefix}:nodes", *(key for name in names for key in self._keys_of(name))]
        fences = [str(self._owned[name].fence) for name in names]
        what, *lost = await self._link.run(RENEW, keys, [*self._self, self._lease_ms, KEPT_MS, *fences])
        for index in map(int, lost):
            if self._owned.pop(names[index], None) is not None:
                self._lost.append(names[index])
        return bool(what == "known")

    async def _settled(
        self, script: str, keys: Sequence[str], arguments: Sequence[str | int], *, may_be_found: bool = False
    ) -> list[Any]:
        """Run a script on a server that knows this node, and all others as well."""
        if not may_be_found and self._clock.seconds() < self._settled_s:
            raise self._unsettled()
        answer = await self._link.run(script, keys, arguments)
        if answer[0] == "unknown":
            self._settle()
            await self._enter(list(self._owned)[:MOST_AT_ONCE])
            raise self._unsettled()
        return answer

    def _settle(self) -> None:
        self._settled_s = self._clock.seconds() + SETTLING * self.renew_interval_s
        self._log.warn("{place} does not know this node; what all own is claimed again", place=self._link.place)

    def _unsettled(self) -> DirectoryError:
        return DirectoryError(f"{self._link.place} has been away, and learns again what each node owns")


@implementer(IOwnerDirectoryFactory)
class RedisDirectoryFactory:
    """
    ``redis:HOST:PORT:db=0:password_file=/etc/rapidrtmp/redis.key:tls=yes``, or ``redis:/run/redis/redis.sock``

    :param host: or the path of a UNIX socket.
    :param db: the number of the database.
    :param user: of the access control lists, where there is one.
    :param password_file: holds the password, and is read with each connection.
    :param tls: whether the connection is encrypted: ``yes`` or ``no``.
    :param ca: a file of the authorities to trust, in PEM; else those of the system.
    :param prefix: begins every key: servers that share streams have the same.
    :param lease: how long a node that is not heard of keeps what it owns. It is renewed three times as often.
    """

    is_shared = True

    def __init__(
        self,
        host: str = "localhost",
        port: str = "6379",
        db: str = "0",
        user: str = "",
        password_file: str = "",
        tls: str = "no",
        ca: str = "",
        prefix: str = "rapidrtmp",
        lease: str = "6s",
    ) -> None:
        for name, value in (("port", port), ("db", db)):
            if not (value.isascii() and value.isdigit()) or int(value) > 65535:
                raise ConfigurationError(f"redis: {name}={value} is no number")
        if tls not in ("yes", "no"):
            raise ConfigurationError(f"redis: tls={tls}: yes or no")
        self._host, self._port, self._database, self._user = host, int(port), int(db), user
        self._password_file = Path(password_file).absolute() if password_file else None
        self._is_encrypted, self._ca, self._prefix = tls == "yes", ca, prefix
        self._lease_ms = parse_duration_ms(lease)
        if self._lease_ms < _LEAST_LEASE_MS:
            raise ConfigurationError(f"redis: lease={lease}: at least {_LEAST_LEASE_MS}ms")

    def open(self, context: DirectoryContext) -> Deferred[IOwnerDirectory]:
        """See :meth:`IOwnerDirectoryFactory.open <rapidrtmp.interfaces.IOwnerDirectoryFactory.open>`."""
        return Deferred.fromCoroutine(self._open(context))

    async def _open(self, context: DirectoryContext) -> IOwnerDirectory:
        try:
            import txredisapi  # noqa: F401
        except ImportError as error:
            raise DirectoryError(f"redis: needs `pip install rapidrtmp[redis]` ({error})") from error
        place = f"redis {self._host}" if self._host.startswith("/") else f"redis {self._host}:{self._port}"
        timeout_s = min(_LONGEST_ANSWER_S, self._lease_ms / 8000)
        link = RedisLink(
            place,
            self._make_endpoint(context.clock, timeout_s),
            self._user,
            self._read_password,
            self._database,
            timeout_s,
            context.clock,
        )
        directory = RedisDirectory(link, self._prefix, self._lease_ms, context)
        for _ in range(TRIES - 1):
            try:
                return await directory.open()
            except RefusedError:
                raise
            except DirectoryError as error:
                context.log.warn("{error}; it is tried again", error=error)
                await deferLater(context.clock, TRY_AGAIN_S)
        return await directory.open()

    def _read_password(self) -> str | None:
        if self._password_file is None:
            return None
        try:
            return self._password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise DirectoryError(f"redis: the password file {self._password_file}: {reason}") from error

    def _make_endpoint(self, reactor: Any, timeout_s: float) -> Callable[[], IStreamClientEndpoint]:
        if self._host.startswith("/"):
            return lambda: UNIXClientEndpoint(reactor, self._host, timeout=timeout_s)
        endpoint = HostnameEndpoint(reactor, self._host, self._port, timeout=timeout_s)
        if not self._is_encrypted:
            return lambda: endpoint
        trust = read_trust(self._ca) if self._ca else platformTrust()
        return lambda: wrapClientTLS(optionsForClientTLS(self._host, trustRoot=trust), endpoint)


def _owner(said: Sequence[str]) -> Owner:
    node, address, fence = said
    return Owner(node, address, int(fence))
