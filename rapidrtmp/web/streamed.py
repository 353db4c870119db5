"""
Answers whose body is made while it is sent: no faster than the client reads, and never held as a whole.

The next piece is asked for when the transport has sent the last ones. A client that leaves ends the making of the rest;
a body that cannot be made to its end breaks the connection off, because its length was promised already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import StreamedResponse
from rapidrtmp.support.bug_log import BugLog

__all__ = ["send_streamed"]


@implementer(IPushProducer)
class _Valve:
    """Closed while the transport holds enough."""

    def __init__(self) -> None:
        self._is_open = True
        self._opening: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """Enough is held now."""
        self._is_open = False

    def resumeProducing(self) -> None:
        """More may come."""
        self._is_open = True
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.callback(None)

    def stopProducing(self) -> None:
        """The client has left; the caller that waits for the answer learns it from its request."""

    async def passable(self) -> None:
        """Wait until more may come."""
        if not self._is_open:
            self._opening = Deferred()
            await self._opening


def send_streamed(
    response: StreamedResponse, consumer: Any, sent: Callable[[int], object], bugs: BugLog
) -> Deferred[bytes]:
    """
    Write the body of an answer whose header fields are set.

    :param consumer: a ``twisted.web`` request.
    :param sent: called with the size of every piece as it is written.
    :param bugs: where a failure of the storage or a bug is logged.
    :returns: fires with ``b""``, which is left to write, when it is done; cancel it when the client has left.
    """
    return Deferred.fromCoroutine(_send(response, consumer, sent, bugs))


async def _send(response: StreamedResponse, consumer: Any, sent: Callable[[int], object], bugs: BugLog) -> bytes:
    valve = _Valve()
    chunks = response.open()
    consumer.registerProducer(valve, True)
    is_whole = False
    try:
        await valve.passable()
        async for chunk in chunks:
            consumer.write(chunk)
            sent(len(chunk))
            await valve.passable()
        is_whole = True
    except CancelledError:  # the client has left, and with it everything that could be said of it
        raise
    except RapidRTMPError as error:
        bugs.error("an answer broke off: {error}", error=error)
    except Exception:
        bugs.failure("internal error, an answer broke off")
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    consumer.unregisterProducer()
    if not is_whole:
        consumer.loseConnection()
        await Deferred()  # the request must not be finished: it ends with the connection, which cancels this
    return b""
