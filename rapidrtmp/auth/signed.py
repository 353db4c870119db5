"""
The bytes of a token: what it permits, and a signature.

| bytes | what |
|---|---|
| 1 | the version (3 bits), and which of what follows is there |
| 3 | which key signs it |
| 6 | its own number, at random |
| 6 | when it was issued, in milliseconds since 1970 |
| 5 | when it expires, in seconds since 1970 |
| 8, or 2 + n | a digest of the one stream; or the length of a pattern of streams, and the pattern |
| 6 or 18 | if there is one: the network, as IP version, length of the prefix, and address |
| 3 | if it is for one session: how long after its end that may be resumed, in seconds |
| 2 | if they are limited: how many players may use it at one time |
| 16 | the first half of an HMAC-SHA256 over all of the above |

Numbers are big-endian; the text is base64url without padding. A token for one stream has 60 to 91 characters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from rapidrtmp.auth.patterns import matches
from rapidrtmp.interfaces import Action
from rapidrtmp.names import StreamName

__all__ = ["MAX_TOKEN_LENGTH", "SignedToken", "digest_of", "key_id_of", "read_token", "write_token"]

#: No token of ours is longer: one with the longest pattern.
MAX_TOKEN_LENGTH = 512
_PURPOSE = b"rapidrtmp token 2\0"
_VERSION = 2 << 5
_PLAY, _PATTERN, _NETWORK, _ONE_SESSION, _FEW_PLAYERS = 1, 2, 4, 8, 16
_KEY_ID, _NUMBER, _ISSUED, _EXPIRES, _DIGEST, _MAC = 3, 6, 6, 5, 8, 16


@dataclass(frozen=True, slots=True)
class SignedToken:
    """
    What a token says.

    :ivar streams: a pattern, or a digest of the one stream.
    :ivar number: its own, six bytes.
    :ivar network: ``""`` for all; likewise ``reconnect_s`` is ``None``, ``max_players`` 0.
    """

    action: Action
    streams: str | bytes = field(repr=False)
    number: bytes = field(repr=False)
    issued_ms: int
    expires_s: int
    network: str = ""
    reconnect_s: int | None = None
    max_players: int = 0

    def is_for(self, stream: StreamName) -> bool:
        """Whether it is for a stream."""
        if isinstance(self.streams, str):
            return matches(self.streams, stream)
        return self.streams == digest_of(stream)


def digest_of(stream: StreamName) -> bytes:
    """What stands for one stream in a token."""
    return hashlib.sha256(str(stream).encode()).digest()[:_DIGEST]


def key_id_of(key: bytes) -> bytes:
    """What a token calls the key that signed it; it says nothing of the key."""
    return hashlib.sha256(b"rapidrtmp key\0" + key).digest()[:_KEY_ID]


def write_token(token: SignedToken, key: bytes) -> str:
    """A token as text, signed."""
    flags = _VERSION | (_PLAY if token.action is Action.PLAY else 0)
    rest = b""
    if isinstance(token.streams, str):
        flags |= _PATTERN
        pattern = token.streams.encode("ascii")
        rest += len(pattern).to_bytes(2, "big") + pattern
    else:
        rest += token.streams
    if token.network:
        flags |= _NETWORK
        network = ip_network(token.network)
        rest += bytes((network.version, network.prefixlen)) + network.network_address.packed
    if token.reconnect_s is not None:
        flags |= _ONE_SESSION
        rest += token.reconnect_s.to_bytes(3, "big")
    if token.max_players:
        flags |= _FEW_PLAYERS
        rest += token.max_players.to_bytes(2, "big")
    head = bytes((flags,)) + key_id_of(key) + token.number
    times = token.issued_ms.to_bytes(_ISSUED, "big") + token.expires_s.to_bytes(_EXPIRES, "big")
    data = head + times + rest
    return base64.urlsafe_b64encode(data + _mac(key, data)).rstrip(b"=").decode("ascii")


def read_token(text: str, keys: Mapping[bytes, bytes] | None) -> SignedToken | None:
    """
    Read a token.

    :param keys: those that may have signed it, by what tokens call them; ``None`` to believe it without.
    :returns: ``None`` if it is no token of one of them.
    """
    if len(text) > MAX_TOKEN_LENGTH or not text.isascii():
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error:
        return None
    if len(data) < 1 + _KEY_ID + _NUMBER + _ISSUED + _EXPIRES + _MAC or data[0] & 0xE0 != _VERSION:
        return None
    signed, mac = data[:-_MAC], data[-_MAC:]
    if keys is not None:
        key = keys.get(signed[1 : 1 + _KEY_ID])
        if key is None or not hmac.compare_digest(mac, _mac(key, signed)):
            return None
    token = _Reader(signed).token()
    if token is None or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:  # its last bits are not signed
        return None
    return token


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + data, "sha256")[:_MAC]


class _Reader:
    """Takes the fields of a token off its bytes, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("cut short")
        self._at += size
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def token(self) -> SignedToken | None:
        """What it says; ``None`` if it cannot be read."""
        try:
            token = self._read()
        except ValueError:
            return None
        return token if self._at == len(self._data) else None

    def _read(self) -> SignedToken:
        flags = self._number(1)
        self._take(_KEY_ID)
        number, issued_ms, expires_s = self._take(_NUMBER), self._number(_ISSUED), self._number(_EXPIRES)
        return SignedToken(
            Action.PLAY if flags & _PLAY else Action.PUBLISH,
            self._take(self._number(2)).decode("ascii") if flags & _PATTERN else self._take(_DIGEST),
            number,
            issued_ms,
            expires_s,
            self._network() if flags & _NETWORK else "",
            self._number(3) if flags & _ONE_SESSION else None,
            self._number(2) if flags & _FEW_PLAYERS else 0,
        )

    def _network(self) -> str:
        version, length = self._number(1), self._number(1)
        if version == 4:
            return str(IPv4Network((self._take(4), length)))
        return str(IPv6Network((self._take(16), length)))
