"""What one peer may make a session hold or do. A peer that passes a bound is disconnected, if not said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.rtmp.chunk_limits import ChunkLimits
from rapidrtmp.support.limits import limit

__all__ = ["DEFAULT_AMF_LIMITS", "DEFAULT_LIMITS", "AmfLimits", "SessionLimits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class AmfLimits:
    """
    Bounds for the AMF of one message; a message that passes one is unreadable. Text and keys are bounded by the
    message itself: no length in it is believed beyond the bytes that are there.

    :ivar depth: containers within containers.
    :ivar values: values, those in containers included.
    """

    depth: int = limit(16, "Objects within objects in one command or metadata message", key="max_amf_depth", minimum=4)
    values: int = limit(4096, "Values in one command or metadata message", key="max_amf_values", minimum=64)


DEFAULT_AMF_LIMITS = AmfLimits()


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """
    Every bound of one RTMP session.

    Until a publish is accepted nothing is known of the peer, so it gets little; afterwards it gets what media needs.

    :ivar unauthorised_message_bytes: longest message of any type before the first accepted publish.
    :ivar unauthorised_chunk_streams: chunk streams in use before that.
    :ivar held_bytes: bytes of media and data kept while a publish waits for its answer; what comes beyond is
        skipped. Encoders that do not wait lose no codec config to a slow authenticator.
    :ivar unpublished_commands: commands between one accepted publish and the next, or before the first.
    :ivar unpublished_messages: messages of media, data, pings and unknown types while nothing is published or asked
        to be, between one accepted publish and the next, or before the first.
    :ivar media_bytes: longest audio, video or aggregate message.
    :ivar command_bytes: longest message of any other type.
    :ivar partial_bytes: bytes of incomplete messages held at a time.
    :ivar chunk_streams: chunk streams in use over the connection's life.
    :ivar message_streams: message streams created and not deleted.
    :ivar unreadable_messages: how many messages in a row may be unreadable.
    :ivar app_length: characters of ``app`` in the connect command, query included: a token there may be a JWT.
    :ivar tc_url_length: characters of ``tcUrl``.
    :ivar name_length: characters of the name published or played, query included; a longer one is refused.
    :ivar amf: bounds for the values in one command or data message.
    """

    unauthorised_message_bytes: int = limit(
        64 * KIB, "Largest message before the publisher is admitted", key="pre_auth_message"
    )
    unauthorised_chunk_streams: int = 16
    held_bytes: int = 64 * KIB
    unpublished_commands: int = limit(
        100, "Commands of a connection that does not publish", key="max_unpublished_commands", minimum=20
    )
    unpublished_messages: int = limit(
        1000, "Other messages of a connection that does not publish", key="max_unpublished_messages", minimum=20
    )
    media_bytes: int = limit(10 * MIB, "Largest media message", key="max_message")
    command_bytes: int = limit(256 * KIB, "Largest command or metadata message", key="max_command")
    partial_bytes: int = limit(16 * MIB, "Messages not yet whole, of one connection together", key="max_partial")
    chunk_streams: int = limit(64, "Chunk streams of one connection", key="max_chunk_streams", minimum=8)
    message_streams: int = limit(8, "Message streams of one connection at once", key="max_message_streams", minimum=1)
    unreadable_messages: int = limit(
        100, "Messages in a row that make no sense", key="max_unreadable_messages", minimum=1
    )
    app_length: int = 8192
    tc_url_length: int = 9216
    name_length: int = 8192
    amf: AmfLimits = DEFAULT_AMF_LIMITS

    @property
    def unauthorised_partial_bytes(self) -> int:
        """Bytes of incomplete messages held before the first accepted publish."""
        return 2 * self.unauthorised_message_bytes

    def before_publishing(self) -> ChunkLimits:
        """Limits for the chunk layer until a publish is accepted."""
        return ChunkLimits(
            max_media_bytes=self.unauthorised_message_bytes,
            max_command_bytes=self.unauthorised_message_bytes,
            max_chunk_streams=self.unauthorised_chunk_streams,
            max_partial_bytes=self.unauthorised_partial_bytes,
        )

    def while_publishing(self) -> ChunkLimits:
        """Limits for the chunk layer from then on."""
        return ChunkLimits(
            max_media_bytes=self.media_bytes,
            max_command_bytes=self.command_bytes,
            max_chunk_streams=self.chunk_streams,
            max_partial_bytes=self.partial_bytes,
        )


DEFAULT_LIMITS = SessionLimits()
