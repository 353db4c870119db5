"""
The RTMP handshake, for either end: the first bytes of a connection, before the chunk layer.

A client sends C0 (one byte, the version) and C1 (1536 bytes), the server answers S0, S1 and S2 in one go, the client
closes with C2 (RTMP 1.0, 5.2). S2 must not wait for C2, because FFmpeg reads S2 before it writes C2; and C2 is taken as
it comes, because clients fill it with zeros, with S1 or with a wrong time, and are otherwise fine.

There are two handshakes. In the published one S2 repeats C1. In Adobe's own, C1 carries an HMAC-SHA256 over itself at a
place which other bytes of C1 point to; the server signs S1 in the same layout, and S2 over C1's digest. Which one it
is shows when a digest verifies, and the answer is wholly of one kind: S1 with a version of its own promises a signature
in S2, and FFmpeg's player disconnects when that promise is broken.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from rapidrtmp.errors import MisuseError, PeerProtocolError

__all__ = ["NONCE_SIZE", "ClientHandshake", "HandshakeDone", "ServerHandshake"]

VERSION = 3
PACKET_SIZE = 1536
NONCE_SIZE = PACKET_SIZE - 8
DIGEST_SIZE = 32

_KEY_TAIL = bytes.fromhex("F0EEC24A8068BEE82E00D0D1029E7E576EEC5D2D29806FAB93B8E636CFEB31AE")
_PLAYER_TEXT = b"Genuine Adobe Flash Player 001"
_SERVER_TEXT = b"Genuine Adobe Flash Media Server 001"
_SERVER_KEY = _SERVER_TEXT + _KEY_TAIL

#: What a server that signs puts in S1's version field; FFmpeg's player looks for a signature from 3.0.0.0 on.
_SIGNING_VERSION = bytes([4, 5, 0, 1])
_NO_VERSION = bytes(4)
#: Where the four bytes stand that point to the digest: behind the key block, or ahead of it.
_DIGEST_POINTERS = (772, 8)


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """The peer's last packet has come: what follows belongs to the chunk layer."""


class _Step(enum.Enum):
    AWAITING_FIRST = enum.auto()  # the version, and C1 or S1
    AWAITING_LAST = enum.auto()  # C2 or S2
    DONE = enum.auto()


class _Handshake:
    """
    What both ends of a handshake have: bytes that arrived, bytes to send, and three steps.

    :ivar is_done: whether the peer's last packet has come.
    """

    def __init__(self, nonce: bytes, time_ms: int) -> None:
        if len(nonce) != NONCE_SIZE:
            raise MisuseError(f"handshake nonce of {len(nonce)} bytes, not {NONCE_SIZE}")
        self._nonce = nonce
        self._time = (time_ms % 2**32).to_bytes(4, "big")
        self._step = _Step.AWAITING_FIRST
        self._unread = bytearray()
        self._to_send = bytearray()

    @property
    def is_done(self) -> bool:
        """Whether the peer's last packet has come."""
        return self._step is _Step.DONE

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer."""
        self._unread += data

    def events(self) -> Iterator[HandshakeDone]:
        """
        Read what is there: nothing is yielded until the last packet is complete, then ``HandshakeDone`` once.

        :raises PeerProtocolError: the first byte is not an RTMP version we speak; the message says what it looks
            like, for the operator who mixed up two ports.
        """
        if self._step is _Step.AWAITING_FIRST and self._unread:
            _check_version(self._unread[0])
            if len(self._unread) >= 1 + PACKET_SIZE:
                first = bytes(self._unread[1 : 1 + PACKET_SIZE])
                del self._unread[: 1 + PACKET_SIZE]
                self._to_send += self._answer(first)
                self._step = _Step.AWAITING_LAST
        if self._step is _Step.AWAITING_LAST and len(self._unread) >= PACKET_SIZE:
            del self._unread[:PACKET_SIZE]
            self._step = _Step.DONE
            yield HandshakeDone()

    def data_to_send(self) -> bytes:
        """Drain what we send."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def take_rest(self) -> bytes:
        """Drain the bytes behind the last packet; empty until it has come."""
        if not self.is_done:
            return b""
        rest = bytes(self._unread)
        self._unread.clear()
        return rest

    def _answer(self, first: bytes) -> bytes:
        """What we answer to the peer's first packet (C1 or S1)."""
        raise NotImplementedError


class ClientHandshake(_Handshake):
    """
    Sends C0 and C1 at once, takes S0 and S1, answers C2, takes S2.

    It is the published handshake, which every server accepts; neither S1 nor S2 is checked, as servers differ in both.
    """

    def __init__(self, nonce: bytes, time_ms: int = 0) -> None:
        """
        Greet the server.

        :param nonce: 1528 random bytes, for C1.
        :param time_ms: our clock for C1, in milliseconds; taken modulo 2**32.
        :raises MisuseError: ``nonce`` has another length.
        """
        super().__init__(nonce, time_ms)
        self._to_send += bytes([VERSION]) + self._time + _NO_VERSION + nonce

    def _answer(self, first: bytes) -> bytes:
        """C2, which repeats S1; it does not wait for S2, as some servers wait for it."""
        return first


class ServerHandshake(_Handshake):
    """Takes C0 and C1, answers S0, S1 and S2 together, takes C2."""

    def __init__(self, nonce: bytes, time_ms: int = 0) -> None:
        """
        Prepare to answer one client.

        :param nonce: 1528 random bytes, for S1.
        :param time_ms: our clock for S1, in milliseconds; taken modulo 2**32.
        :raises MisuseError: ``nonce`` has another length.
        """
        super().__init__(nonce, time_ms)

    def _answer(self, first: bytes) -> bytes:
        """S0, S1 and S2 for a client whose C1 this is."""
        c1 = first
        pointer = _verified_pointer(c1)
        if pointer is None:
            s1 = self._time + _NO_VERSION + self._nonce
            s2 = c1
        else:
            s1 = _with_digest(self._time + _SIGNING_VERSION + self._nonce, pointer, _SERVER_TEXT)
            s2 = self._signature_of(c1, pointer)
        return bytes([VERSION]) + s1 + s2

    def _signature_of(self, c1: bytes, pointer: int) -> bytes:
        """S2 for a signed C1: filling, then its HMAC under a key that only holders of C1's digest can make."""
        at = _digest_position(c1, pointer)
        key = _hmac(_SERVER_KEY, c1[at : at + DIGEST_SIZE])
        filling = self._nonce[: PACKET_SIZE - DIGEST_SIZE]
        return filling + _hmac(key, filling)


def _check_version(first: int) -> None:
    """:raises PeerProtocolError: ``first`` is not C0 of plain RTMP (5.2.2: 3; 32 and above can only be text)."""
    if first == VERSION:
        return
    if first == 0x16:
        guess = "a TLS hello on a port that expects plain RTMP (for rtmps, listen on an ssl: endpoint)"
    elif first in b"GPHOCDT":  # GET, POST and PUT, HEAD, OPTIONS, CONNECT, DELETE, TRACE
        guess = "an HTTP request, or RTMP tunnelled in HTTP (RTMPT), on a port that expects plain RTMP"
    elif first in (6, 8, 9):
        guess = "encrypted RTMP (RTMPE), which is not supported; use rtmps"
    elif first >= 0x20:
        guess = "text: not RTMP"
    else:
        guess = "not a version of RTMP that is in use"
    raise PeerProtocolError(f"first byte 0x{first:02x} instead of 0x{VERSION:02x}: {guess}")


def _verified_pointer(c1: bytes) -> int | None:
    """Where the pointer to C1's digest stands, if there is a digest that verifies; ``None`` for a simple C1."""
    for pointer in _DIGEST_POINTERS:
        at = _digest_position(c1, pointer)
        if hmac.compare_digest(c1[at : at + DIGEST_SIZE], _digest_of(c1, at, _PLAYER_TEXT)):
            return pointer
    return None


def _digest_position(packet: bytes, pointer: int) -> int:
    """Where the digest of a C1 or S1 stands: the four bytes at ``pointer``, added up, say how far behind them."""
    return pointer + 4 + sum(packet[pointer : pointer + 4]) % 728


def _with_digest(packet: bytes, pointer: int, key: bytes) -> bytes:
    """A C1 or S1 with its digest put in place."""
    at = _digest_position(packet, pointer)
    return packet[:at] + _digest_of(packet, at, key) + packet[at + DIGEST_SIZE :]


def _digest_of(packet: bytes, at: int, key: bytes) -> bytes:
    """The HMAC over all of ``packet`` but the digest's own 32 bytes at ``at``."""
    return _hmac(key, packet[:at] + packet[at + DIGEST_SIZE :])


def _hmac(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.digest(key, data, "sha256")
