"""
RTMP sessions: bytes in, events out, for either end of a connection.

- ``states``: the one table of what may happen when, for both roles;
- ``base``: handshake, chunks, messages, acknowledgements, media: what both ends do alike;
- ``server``: answers a client's commands, and decides: :class:`ServerSession`;
- ``client``: says the commands, and takes the answers: :class:`ClientSession`, for relays and pulls.
"""

from __future__ import annotations

from rapidrtmp.rtmp.session.client import ClientSession
from rapidrtmp.rtmp.session.server import ServerSession
from rapidrtmp.rtmp.session.states import State

__all__ = ["ClientSession", "ServerSession", "State"]
