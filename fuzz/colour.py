"""
Metadata of video: colour and brightness.

Nothing but ``MediaError`` may escape; what is understood can be written into an init segment's boxes.
"""

from __future__ import annotations

from rapidrtmp.cmaf.boxes import clli, colr, mdcv
from rapidrtmp.errors import MediaError
from rapidrtmp.live.colour_info import coloured, read_colour_info
from rapidrtmp.media import VideoConfig

__all__ = ["run"]


def run(data: bytes) -> None:
    """One packet. :raises AssertionError: an invariant does not hold."""
    try:
        info = read_colour_info(data)
    except MediaError:
        return
    config = coloured(VideoConfig(b"", "", 16, 16), info)
    assert coloured(config, info) == config, "it says more the second time"
    if config.colour is not None:
        colr(config.colour)
    if config.mastering is not None:
        mdcv(config.mastering)
    if config.light is not None:
        clli(config.light)
