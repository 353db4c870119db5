"""
AAC: an AudioSpecificConfig behind its length, then a frame.

Nothing but ``MediaError`` may escape; and a config is read as the same again.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.aac import read_audio_config, read_frame
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    try:
        config = read_audio_config(parts.take(parts.number()))
    except MediaError:
        pass
    else:
        assert read_audio_config(config.record) == config
        assert config.channels > 0
        assert 7_350 <= config.sample_rate <= 192_000
        assert config.samples_per_frame in (960, 1024, 1920, 2048)
    frame = parts.rest()
    try:
        assert len(read_frame(frame)) <= len(frame)
    except MediaError:
        pass
