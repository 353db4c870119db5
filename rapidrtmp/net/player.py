"""
The role of a connection that plays: it gets a place in a rendering of a stream, and its commands move it there.

Who may play, and whether there is a seat, is decided by the door that all viewers come through; a stream that is not
there is waited for. A player whose stream's publisher is gone is sent nothing until that has returned, or the stream
has ended: whatever else is said would end it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from rapidrtmp.codec.flv_capabilities import FlvCapabilities
from rapidrtmp.errors import NotFoundError, RapidRTMPError
from rapidrtmp.interfaces import HttpError, Request
from rapidrtmp.media import MediaKind
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.net.role import SHARED_REACTIONS, Role
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.net.shown import showable
from rapidrtmp.play.follower import SocketFollower
from rapidrtmp.play.formats import MOST_CHUNK_BYTES, RtmpChunks
from rapidrtmp.play.players import Players, UnplayableError
from rapidrtmp.play.rendering import Ending, RenderingKey
from rapidrtmp.play.selection import Selection, read_selection
from rapidrtmp.rtmp.events import Event, PauseRequested, PlayEnded, PlayRequested, ReceiveRequested
from rapidrtmp.rtmp.session import State
from rapidrtmp.support.clock import now_ms

if TYPE_CHECKING:
    from rapidrtmp.net.connection import RtmpConnection

__all__ = ["PlayAsking", "Player"]

NOT_FOUND, FAILED = "NetStream.Play.StreamNotFound", "NetStream.Play.Failed"
#: The names under which players send a secret.
TOKEN_NAMES = ("token", "key", "auth", "pass")
#: How often it is looked whether a player may still play.
CHECK_MS = 2_000


class PlayAsking:
    """
    One request to play, up to its answer.

    :param via: the ids of the servers that the player has come through.
    :ivar is_waiting: whether it is admitted, and waits for the stream.
    """

    def __init__(
        self,
        connection: RtmpConnection,
        services: RtmpServices,
        event: PlayRequested,
        client: str,
        capabilities: FlvCapabilities,
        via: tuple[str, ...] = (),
    ) -> None:
        self._via = via
        self.is_waiting = False
        self._connection = connection
        self._services = services
        self._event = event
        self._capabilities = capabilities
        token = next((event.parameters[each] for each in TOKEN_NAMES if event.parameters.get(each)), "")
        others = {name: value for name, value in event.parameters.items() if name not in TOKEN_NAMES}
        self._request = Request(
            "GET",
            urlencode(others),
            {"user-agent": client},
            connection.peer,
            connection.peer,
            scheme="rtmp",
            token=token,
        )
        self._shown = showable(event.app, event.key)
        self._asked: Deferred[Any] | None = None

    def ask(self) -> None:
        """Ask for all that it takes."""
        players = self._services.players
        if players is None:
            self._refuse(NOT_FOUND, "This server does not play over RTMP. Watch over HLS instead.")
            return
        asked = self._asked = maybeDeferred(self._admit)
        asked.addCallback(self._find, players)
        asked.addCallbacks(self._begin, self._failed, callbackArgs=(players,))
        asked.addErrback(self._failed)
        asked.addErrback(self._connection.fail)

    def cancel(self) -> None:
        """Take it back."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()

    def _admit(self) -> Deferred[None] | None:
        app = self._services.app_names.find(self._event.app) or self._event.app
        name = StreamName.checked(app, self._event.key)
        if app not in self._services.apps:
            raise NotFoundError(f"there is no application {app!r} here")
        self._shown, self._name = str(name), name
        admission = self._services.admission
        return admission.admit(self._request, name) if admission is not None else None

    def _find(self, _: None, players: Players) -> Deferred[Any]:
        self._selection = read_selection(self._event.parameters)
        self.is_waiting = True
        return players.find(self._name, self._event.parameters, self._via)

    def _begin(self, stream: Any, players: Players) -> None:
        self.is_waiting = False
        players.check(stream, self._capabilities, self._selection)
        factory, client_prefix = self._connection.factory, self._connection.client_prefix
        admission, name = self._services.admission, self._name
        leave: Callable[[], None] = lambda: None  # noqa: E731
        viewed = players.streams.find(name)
        if admission is not None and viewed is not None:
            admission.check_again(self._request, name)
            admission.begin(self._request, name, None)
        factory.player_comes(client_prefix)
        if admission is not None and viewed is not None:
            try:
                leave = admission.enter(self._request, name, viewed.viewers)
            except Exception:
                factory.player_leaves(client_prefix)
                raise
        self._asked = None
        player = Player(self._connection, self._services, players, self._request, name, leave)
        player.begin(stream, self._event.msid, self._capabilities, self._selection)

    def _failed(self, failure: Failure) -> None:
        if self._asked is None and failure.check(CancelledError):
            return
        self._asked, self.is_waiting = None, False
        error = failure.value
        if isinstance(error, UnplayableError):
            self._refuse(FAILED, str(error))
        elif isinstance(error, NotFoundError | BadNameError):
            self._refuse(NOT_FOUND, str(error))
        elif isinstance(error, HttpError | RapidRTMPError):
            self._refuse(FAILED, str(error))
        else:
            failure.raiseException()

    def _refuse(self, code: str, reason: str) -> None:
        connection, services = self._connection, self._services
        services.metrics.plays_total.labels("refused").inc()
        source = f"{connection.client_prefix}: {self._shown}{reason}"
        if services.log_throttle.is_news("play refusal", source, now_ms(services.clock)):
            Role._log.info(
                "play of {stream} by {peer} refused: {reason}", stream=self._shown, peer=connection.peer, reason=reason
            )
        if connection.session.state is State.PLAY_PENDING:
            connection.session.reject_play(self._event.msid, code, reason)
        connection.close()


class Player(Role):
    """One play."""

    is_pending: ClassVar[bool] = False

    def __init__(
        self,
        connection: RtmpConnection,
        services: RtmpServices,
        players: Players,
        request: Request,
        name: StreamName,
        leave_seat: Callable[[], None],
    ) -> None:
        super().__init__(connection, services)
        self._players = players
        self._request = request
        self._name = name
        self._leave_seat = leave_seat
        self._waiting = connection.role
        self._has_left = self._is_paused = False
        self._seen_bytes = 0
        self._checked_ms = now_ms(services.clock)

    def begin(self, stream: Any, msid: int, capabilities: FlvCapabilities, selection: Selection) -> None:
        """Play from the newest keyframe on."""
        connection = self._connection
        self._msid = msid
        self._capabilities, self._selection = capabilities, selection
        self._kinds = selection.kinds
        connection.change_role(self)
        connection.session.accept_play(msid, MOST_CHUNK_BYTES)
        self._follower = SocketFollower(
            connection.lend_transport(), self._services.clock, self._players.policy, self._ended
        )
        self._place = self._players.join(stream, "rtmp", self._follower)
        self._services.metrics.plays_total.labels("accepted").inc()
        self._log.info(
            "{stream} played by {peer} ({client})",
            stream=self._name,
            peer=connection.peer,
            client=self._request.header("user-agent"),
        )
        self._follow()

    def _follow(self) -> None:
        """Have the place that suits what is wanted now, if anything is."""
        self._follower.stop()
        kinds = self._kinds
        if self._is_paused or not kinds:
            self._place.pause()
            return
        selection = replace(self._selection, kinds=kinds)
        key = RenderingKey(RtmpChunks(self._msid), self._capabilities, selection)
        self._place.pause()
        self._follower.follow(self._place.choose(key))

    # ── what the player says ─────────────────────────────────────────────────────────────────────────────────────────

    def react(self, event: Event, time_ms: int) -> None:  # noqa: ARG002
        """Do what one event asks for."""
        reaction = _REACTIONS.get(type(event))
        if reaction is not None:
            reaction(self, event)

    def _pause(self, event: PauseRequested) -> None:
        self._connection.session.note_pause(self._msid, is_paused=event.is_paused)
        if event.is_paused != self._is_paused:
            self._is_paused = event.is_paused
            self._connection.flush()
            self._follow()

    def _receive(self, event: ReceiveRequested) -> None:
        kind = frozenset([MediaKind.VIDEO if event.is_video else MediaKind.AUDIO]) & self._selection.kinds
        kinds = self._kinds | kind if event.is_wanted else self._kinds - kind
        if kinds != self._kinds:
            self._kinds = kinds
            self._follow()

    # ── how it goes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, time_ms: int) -> None:
        """See whether it still takes what it is sent, and still may."""
        follower = self._follower
        follower.watch(time_ms)
        if follower.sent_bytes != self._seen_bytes and not follower.is_blocked:
            self.active_ms = time_ms
        admission = self._services.admission
        if admission is None or self._has_left:
            return
        admission.sent(self._name, follower.sent_bytes - self._seen_bytes)
        self._seen_bytes = follower.sent_bytes
        if time_ms - self._checked_ms >= CHECK_MS:
            self._checked_ms = time_ms
            try:
                admission.check_again(self._request, self._name)
            except RapidRTMPError as error:
                self._ended(Ending(str(error), is_regular=False))

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, ending: Ending) -> None:
        """The stream has ended, or the player is too slow, or may play no more."""
        connection = self._connection
        if not ending.is_regular:
            self._log.info(
                "{stream}: closing the connection to {peer}: {reason}",
                stream=self._name,
                peer=connection.peer,
                reason=ending.reason,
            )
        if connection.session.state is State.PLAYING:
            connection.session.end_play(self._msid, ending.reason)
        self._leave(ending)
        connection.close()

    def closes(self) -> None:
        """Say the last words."""
        if not self._has_left:
            self._ended(Ending("the server closes the connection"))

    def _play_ended(self, _event: PlayEnded) -> None:
        self.leave()
        self._connection.change_role(self._waiting)

    def leave(self) -> None:
        """Give up the place, and the seat."""
        self._leave(Ending("the player left"))

    def _leave(self, ending: Ending) -> None:
        if self._has_left:
            return
        self._has_left = True
        self._follower.close()
        self._place.leave()
        self._connection.take_back_transport()
        self._players.ended(ending, skips=self._follower.skips, sent_bytes=self._follower.sent_bytes)
        self._leave_seat()
        self._connection.factory.player_leaves(self._connection.client_prefix)


_REACTIONS: Mapping[type, Callable[[Any, Any], None]] = {
    **SHARED_REACTIONS,
    PauseRequested: Player._pause,
    PlayEnded: Player._play_ended,
    ReceiveRequested: Player._receive,
}
