"""What one peer may make us hold, checked against what its chunk headers announce before a single byte is kept."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChunkLimits"]

KIB = 1024
MIB = 1024 * KIB

AUDIO = 8
VIDEO = 9
AGGREGATE = 22
_MEDIA_TYPES = frozenset({AUDIO, VIDEO, AGGREGATE})


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """
    Bounds for reading chunks; a peer that passes one is disconnected.

    :ivar max_media_bytes: longest audio, video or aggregate message (types 8, 9, 22).
    :ivar max_command_bytes: longest message of any other type.
    :ivar max_chunk_streams: how many chunk streams may be used over a connection's life.
    :ivar max_partial_bytes: bytes of incomplete messages held at a time, over all chunk streams.
    :ivar min_chunk_size: the least chunk size, in bytes, for a message longer than ``max_small_bytes``: a long
        message in tiny chunks costs more to read than it can be worth.
    :ivar max_small_bytes: the longest message that may come in chunks of any size.
    """

    max_media_bytes: int = 10 * MIB
    max_command_bytes: int = 256 * KIB
    max_chunk_streams: int = 64
    max_partial_bytes: int = 16 * MIB
    min_chunk_size: int = 128
    max_small_bytes: int = 64 * KIB

    def max_bytes(self, type_id: int) -> int:
        """How long a message of this type may be."""
        return self.max_media_bytes if type_id in _MEDIA_TYPES else self.max_command_bytes

    @classmethod
    def unauthorised(cls) -> ChunkLimits:
        """Limits for a peer that has not yet been allowed to publish or play: 64 KiB a message, and in all."""
        return cls(max_media_bytes=64 * KIB, max_command_bytes=64 * KIB, max_partial_bytes=64 * KIB)
