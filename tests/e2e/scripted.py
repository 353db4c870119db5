"""An RTMP server that does what a script says, in a thread of the test: it refuses, hangs, resets, leads elsewhere."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.events import AudioReceived, ConnectRequested, Event, PublishRequested, VideoReceived
from rapidrtmp.rtmp.session import ServerSession

__all__ = ["ADOBE", "Script", "ScriptedServer"]

REJECTED = "NetConnection.Connect.Rejected"
#: What a server says that wants a user and a password.
ADOBE = (
    "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ",
    "[ AccessManager.Reject ] : [ authmod=adobe ] : "
    "?reason=needauth&user=me&salt=c2FsdA==&challenge=Y2hhbA==&opaque=b3A=",
)


@dataclass
class Script:
    """
    What a server does with each connection.

    :ivar hangs: it accepts TCP and says nothing.
    :ivar refusal: of every publish: code and description.
    :ivar redirect: where every connect is sent.
    :ivar challenges: descriptions with which the first connects are refused, one each.
    :ivar reset_s: a publish is reset after so long.
    """

    hangs: bool = False
    refusal: tuple[str, str] | None = None
    redirect: str = ""
    challenges: Sequence[str] = field(default=())
    reset_s: float = 0.0


class ScriptedServer:
    """
    One of them.

    :ivar seen: what every connection has said, in order, but for media.
    :ivar media: how many messages of audio and video have come.
    :ivar connections: how many there were.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[Event] = []
        self.media = self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it; connections that there are end with the test."""
        self._is_closed = True
        self._listening.close()

    def of(self, kind: type[Any]) -> list[Any]:
        """What it has seen of one kind."""
        return [event for event in self.seen if isinstance(event, kind)]

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        session, begun_s = ServerSession(bytes), 0.0
        with connection:
            while not self._is_closed:
                try:
                    data = connection.recv(1 << 16)
                except OSError:
                    return
                if not data:
                    return
                if self.script.hangs:
                    continue
                session.receive_data(data)
                is_over = False
                for event in session.events():
                    is_over = self._react(session, event, number) or is_over
                    begun_s = begun_s or (time.monotonic() if isinstance(event, PublishRequested) else 0.0)
                connection.sendall(session.data_to_send())
                if is_over:
                    return
                if self.script.reset_s and begun_s and time.monotonic() - begun_s >= self.script.reset_s:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return

    def _react(self, session: ServerSession, event: Event, number: int) -> bool:
        """Answer one event; whether the connection is closed then."""
        script = self.script
        if isinstance(event, AudioReceived | VideoReceived):
            self.media += 1
            return False
        self.seen.append(event)
        if isinstance(event, ConnectRequested):
            if script.redirect:
                information = {"level": "error", "code": REJECTED, "ex": {"code": 302, "redirect": script.redirect}}
                session._outbox.send_answer(write_values("_error", 1, None, information))
                return True
            if number <= len(script.challenges):
                session.reject_connect(REJECTED, script.challenges[number - 1])
                return True
            session.accept_connect()
        elif isinstance(event, PublishRequested):
            if script.refusal is not None:
                session.reject_publish(event.msid, *script.refusal)
                return True
            session.accept_publish(event.msid)
        return False
