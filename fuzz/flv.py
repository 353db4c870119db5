"""
FLV and Enhanced RTMP tags: the first byte says whether an input is a video or an audio message.

Nothing but ``MediaError`` may escape; and what comes out was in the message.
"""

from __future__ import annotations

from rapidrtmp.codec.flv import Packet, PacketKind, read_audio, read_video
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One message. :raises AssertionError: an invariant does not hold."""
    message = data[1:]
    packets: list[Packet] = []
    try:
        packets += read_audio(message) if data[:1] == b"\x08" else read_video(message)
    except MediaError:
        return
    assert sum(len(packet.body) for packet in packets) <= len(message)
    for packet in packets:
        assert packet.body in message
        assert 0 <= packet.track_id <= 255
        assert 0 <= packet.nanoseconds < 1_000_000
        assert packet.codec or packet.kind in (PacketKind.IGNORED, PacketKind.UNKNOWN)
    assert len({packet.track_id for packet in packets}) == len(packets), "a track twice"
