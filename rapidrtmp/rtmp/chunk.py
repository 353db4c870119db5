"""
The chunk layer: bytes behind the handshake to messages, and back (RTMP 1.0, 5.3).

A message travels as chunks, each at most the *chunk size* in force, on a *chunk stream*; chunks of different chunk
streams interleave. A chunk header says only what has changed since the last one of its chunk stream, so a reader keeps
a little state for each, and the loss of one byte is the loss of the connection.

This is the door to four modules:

- ``chunk_limits``: what a peer may make us hold;
- ``chunk_rules``: every rule, one header at a time: :class:`~rapidrtmp.rtmp.chunk_rules.PlainChunkReader`;
- ``chunk_span``: the same in fewer steps for what encoders really send: :class:`ChunkReader`;
- ``chunk_writer``: the way back: :class:`ChunkWriter`.
"""

from __future__ import annotations

from rapidrtmp.rtmp.chunk_limits import ChunkLimits
from rapidrtmp.rtmp.chunk_rules import NO_MESSAGE, Message
from rapidrtmp.rtmp.chunk_span import ChunkReader
from rapidrtmp.rtmp.chunk_writer import ChunkWriter

__all__ = ["NO_MESSAGE", "ChunkLimits", "ChunkReader", "ChunkWriter", "Message"]
