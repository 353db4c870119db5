"""
One connection to Redis or Valkey, by which scripts are run.

It is made when the first script is to be run, and again after it was lost. A server that does not answer in time fails
the call, and every other that waits; then, for a moment, calls fail at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from rapidrtmp.errors import DirectoryError

__all__ = ["RedisLink", "RefusedError"]

#: So long after a failure nothing is tried.
PAUSE_S = 0.25


class RefusedError(DirectoryError):
    """The server answers, and will not do what it is asked for: a wrong password, or too few rights."""


class RedisLink:
    """
    See the module.

    :param place: what errors call the server.
    :param endpoint: makes where it is.
    :param find_password: reads the password, ``None`` for none. Raises ``DirectoryError``.
    :param timeout_s: how long connecting may take, and an answer.
    """

    def __init__(
        self,
        place: str,
        endpoint: Callable[[], IStreamClientEndpoint],
        user: str,
        find_password: Callable[[], str | None],
        database: int,
        timeout_s: float,
        clock: IReactorTime,
    ) -> None:
        self.place = place
        self._endpoint = endpoint
        self._user = user
        self._find_password = find_password
        self._database = database
        self._timeout_s = timeout_s
        self._clock = clock
        self._connection: Any = None
        self._waiting: list[Deferred[Any]] | None = None  # for the connection that is being made
        self._failed_s = float("-inf")
        self._reason = ""

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        """
        Run a script, and return what it answers.

        :raises DirectoryError: there was no answer, or an error.
        """
        if self._clock.seconds() - self._failed_s < PAUSE_S:
            raise DirectoryError(self._reason)
        try:
            connection = await self._connected()
            answer: list[Any] = json.loads(await connection.eval(script, keys, arguments))
        except CancelledError:
            raise
        except DirectoryError as error:
            self._fail(str(error))
            raise
        except Exception as error:
            failed = self._fail(f"{self.place}: {_reason(error)}")
            raise RefusedError(str(failed)) if _is_refusal(error) else failed from error
        return answer

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.transport.abortConnection()

    def _fail(self, reason: str) -> DirectoryError:
        """What comes next begins with a new connection: the server may have become a replica, or be another one."""
        self._failed_s, self._reason = self._clock.seconds(), reason
        self.close()
        return DirectoryError(reason)

    def _connected(self) -> Deferred[Any]:
        """The connection; the Deferred is the caller's own."""
        own: Deferred[Any] = Deferred()
        if self._connection is not None and self._connection.connected:
            own.callback(self._connection)
        elif self._waiting is not None:
            self._waiting.append(own)
        else:
            self._waiting = [own]
            Deferred.fromCoroutine(self._connect()).addBoth(self._made)
        return own

    def _made(self, result: object) -> None:
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            if not each.called:
                each.callback(result)  # a Failure as well

    async def _connect(self) -> Any:
        from txredisapi import RedisProtocol

        password = self._find_password()
        protocol = RedisProtocol(
            replyTimeout=self._timeout_s,
            convertNumbers=False,
            password=password,
            username=self._user or None,
            dbid=self._database,
        )
        refusals: list[str] = []
        made = Deferred.fromCoroutine(self._begin(protocol, refusals))
        made.addTimeout(self._timeout_s, self._clock)
        try:
            await made
        except Exception as error:
            if protocol.transport is not None:
                protocol.transport.abortConnection()
            if refusals:
                raise RefusedError(f"{self.place}: {refusals[0]}") from error
            raise DirectoryError(f"{self.place}: {_reason(error)}") from error
        self._connection = protocol
        return protocol

    async def _begin(self, protocol: Any, refusals: list[str]) -> None:
        connected = protocol.whenConnected()
        lost = protocol.whenDisconnected().addCallback(lambda _: connected.called or connected.cancel())
        del lost
        await self._endpoint().connect(_Once(protocol, refusals))
        await connected


class _Once(Factory):
    """
    Makes one protocol, which tells it how its beginning went.

    :param refusals: what the server has against us.
    """

    noisy = False
    isLazy = False

    def __init__(self, protocol: Any, refusals: list[str]) -> None:
        self._protocol = protocol
        self._refusals = refusals

    def buildProtocol(self, addr: object) -> Any:
        """The protocol."""
        del addr
        self._protocol.factory = self
        return self._protocol

    def stopTrying(self) -> None:
        """It is not tried again here."""

    def connectionError(self, why: str) -> None:
        """The password or the database is wrong."""
        self._refusals.append(why.removeprefix("Redis error: "))


def _reason(error: Exception) -> str:
    if isinstance(error, CancelledError):
        return "the connection was closed"
    if isinstance(error, ConnectError | ConnectionLost | DNSLookupError):
        return str(error) or type(error).__name__
    text = " ".join(str(error).split())
    return text or f"no answer ({type(error).__name__})"


def _is_refusal(error: Exception) -> bool:
    """Whether it will be the same the next time."""
    return str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM", "unknown command"))
