"""
Handshake, chunks and session: one connection's bytes.

The first byte of an input chooses: bit 0 whether a handshake stands before the rest (which fuzzing would not find by
itself), the bits above it what becomes of a publish. Besides raising nothing but ``PeerProtocolError``, a session must
do the same however its bytes are cut, and its fast chunk reader must agree with the plain one within the same limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.chunk import NO_MESSAGE, ChunkLimits, ChunkReader
from rapidrtmp.rtmp.chunk_rules import PlainChunkReader
from rapidrtmp.rtmp.events import ConnectRequested, Event, MessageApplied, PlayRequested, PublishRequested
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ServerSession

__all__ = ["run"]

HANDSHAKE = b"\x03" + bytes(1536) + bytes(1536)
#: Small, so that inputs reach them.
LIMITS = SessionLimits(
    unauthorised_message_bytes=600,
    unauthorised_chunk_streams=4,
    held_bytes=500,
    media_bytes=1500,
    command_bytes=800,
    partial_bytes=2000,
    chunk_streams=6,
    unpublished_commands=12,
)
ACCEPT, REJECT, WAIT = 0, 1, 2
PIECE = 7


def run(data: bytes) -> None:
    """One connection. :raises AssertionError: an invariant does not hold."""
    first, body = data[:1] or b"\0", data[1:]
    before = HANDSHAKE if first[0] & 1 else b""
    decision = (first[0] >> 1) % 3
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    assert talk([before + body], decision) == talk([before, *pieces], decision), "cut"
    for limits in (LIMITS.before_publishing(), ChunkLimits()):
        assert read(ChunkReader(limits), body) == read(PlainChunkReader(limits), body), "readers"


def talk(pieces: Iterable[bytes], decision: int) -> tuple[list[Event], str]:
    """What a session makes of bytes: its events, and the error that ended it."""
    session = ServerSession(bytes, LIMITS)
    events: list[Event] = []
    waiting: list[int] = []
    try:
        for piece in pieces:
            session.receive_data(piece)
            for event in session.events():
                if not isinstance(event, MessageApplied):  # the marks of where reading can stop depend on the cut
                    events.append(event)
                if isinstance(event, ConnectRequested):
                    session.accept_connect()
                elif isinstance(event, PlayRequested):
                    session.reject_play(event.msid, "NetStream.Play.StreamNotFound", "no")
                elif isinstance(event, PublishRequested):
                    waiting.append(event.msid)
                    if decision != WAIT:
                        decide(session, waiting.pop(), accept=decision == ACCEPT)
        error = ""
    except PeerProtocolError as problem:
        error = str(problem)
    session.data_to_send()
    return events, error


def decide(session: ServerSession, msid: int, *, accept: bool) -> None:
    """Answer a publish that was asked for."""
    if accept:
        session.accept_publish(msid)
    else:
        session.reject_publish(msid, "NetStream.Publish.Denied", "no")


def read(reader: PlainChunkReader, body: bytes) -> Sequence[object]:
    """The messages that a reader finds, and the error behind them."""
    found: list[object] = []
    reader.receive_data(body)
    try:
        found.extend(message for message in reader.messages() if message is not NO_MESSAGE)
    except PeerProtocolError as problem:
        found.append(str(problem))
    assert reader.held_bytes <= reader.limits.max_partial_bytes + len(body)
    return found
