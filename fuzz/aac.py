"""
AAC: an AudioSpecificConfig behind its length, then a frame.

Nothing but ``MediaError`` may escape; and a config is read as the same again.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.aac import AacReader, read_audio_config
from rapidrtmp.errors import MediaError

__all__ = ["run"]

#: AAC-LC, 48 kHz, stereo.
_PLAIN = read_audio_config(b"\x11\x90")


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    config = _PLAIN
    try:
        config = read_audio_config(parts.take(parts.number()))
    except MediaError:
        pass
    else:
        assert read_audio_config(config.record) == config
        assert config.channels > 0
        assert 7_350 <= config.sample_rate <= 192_000
        assert config.samples_per_frame in (960, 1024, 1920, 2048)
    body = parts.rest()
    try:
        frame = AacReader(config).read(body)
    except MediaError:
        return
    assert frame is None or len(frame) <= len(body)
