"""
What a connection is: an object that reacts to the session's events, and is replaced when that changes.

A connection begins as ``Waiting`` (``waiting.py``), and is a ``Publisher`` (``publisher.py``) from the moment its
publish is accepted until that ends, or a ``Player`` (``player.py``) while it plays. The connection itself knows bytes
and deadlines only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.logger import Logger

from rapidrtmp.net.services import RtmpServices
from rapidrtmp.rtmp.events import CommandIgnored, Event, MessageIgnored
from rapidrtmp.support.clock import now_ms

if TYPE_CHECKING:
    from rapidrtmp.net.connection import RtmpConnection

__all__ = ["Role"]


class Role:
    """
    The base of roles: counts what every connection ignores.

    :cvar is_pending: whether the connection is one that has not been admitted.
    :ivar active_ms: when the peer was seen to be there by other things than bytes from it; 0 for never.
    """

    is_pending: ClassVar[bool]
    active_ms = 0
    _log = Logger()

    def __init__(self, connection: RtmpConnection, services: RtmpServices) -> None:
        self._connection = connection
        self._services = services

    def react(self, event: Event, time_ms: int) -> None:
        """Do what one event asks for; ``time_ms`` is when it arrived."""
        raise NotImplementedError

    def watch(self, time_ms: int) -> None:
        """Look at deadlines; called every quarter of a second."""

    def settle(self, time_ms: int) -> None:
        """Note that the server did not read for a while, until ``time_ms``."""

    def closes(self) -> None:
        """Say the last words: the connection is about to be closed."""

    def leave(self) -> None:
        """Give up what the role holds: the connection is gone, or closes. Further calls change nothing."""

    def _command_ignored(self, event: CommandIgnored) -> None:
        self._services.metrics.rtmp_ignored_total.labels("command").inc()
        if self._is_first("ignored command"):
            self._log.debug("{peer}: command {name} ignored", peer=self._connection.peer, name=event.name)

    def _message_ignored(self, event: MessageIgnored) -> None:
        self._services.metrics.rtmp_ignored_total.labels("message").inc()
        if self._is_first("ignored message"):
            self._log.debug(
                "{peer}: message of type {type} ignored: {reason}",
                peer=self._connection.peer,
                type=event.type_id,
                reason=event.reason,
            )

    def _is_first(self, kind: str) -> bool:
        """Tell whether to log an event that a peer can cause as often as it likes."""
        time_ms = now_ms(self._services.clock)
        return self._services.log_throttle.is_news(kind, self._connection.client_prefix, time_ms)


#: The reactions that all roles have.
SHARED_REACTIONS: Mapping[type, Callable[[Role, Any], None]] = {
    CommandIgnored: Role._command_ignored,
    MessageIgnored: Role._message_ignored,
}
