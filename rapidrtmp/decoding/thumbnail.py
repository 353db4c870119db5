"""The sink ``thumbnail``: ``/APP/KEY/thumbnail.jpg``, renewed while the stream is live."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from rapidrtmp.decoding.base import DecodingSink, Upload
from rapidrtmp.decoding.sink import DecodingSinkFactory
from rapidrtmp.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ThumbnailFactory", "ThumbnailSink"]

NAME = "thumbnail.jpg"
LEAST_WIDTH, MOST_WIDTH = 16, 3840


class ThumbnailSink(DecodingSink):
    """
    Makes JPEGs.

    :param width: in pixels; no picture is enlarged. Heights follow the picture's own shape.
    """

    def __init__(self, width: int) -> None:
        self._width = width

    def picture(self, image: npt.NDArray[np.uint8], utc_ms: int) -> Upload:  # noqa: ARG002 - the base's
        """See :meth:`DecodingSink.picture <rapidrtmp.decoding.DecodingSink.picture>`."""
        return Upload(NAME, encode_jpeg(image, self._width), "image/jpeg")


def encode_jpeg(image: npt.NDArray[np.uint8], most_width: int) -> bytes:
    """A picture as JPEG, made smaller where it is wider than that."""
    import av

    height, width = image.shape[:2]
    wide = min(width, most_width) // 2 * 2
    high = max(2, round(height * wide / width) // 2 * 2)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = wide, high, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(wide, high, "yuvj420p")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


class ThumbnailFactory(DecodingSinkFactory):
    """
    Makes the sinks: ``thumbnail``, ``thumbnail:every=30s:width=640``.

    :param every: how far apart thumbnails are, at least; ``keyframes`` for each keyframe.
    :param width: in pixels, 16 to 3840.
    """

    sink = ThumbnailSink

    def __init__(self, every: str = "10s", width: str = "320") -> None:
        if not width.isdecimal() or not LEAST_WIDTH <= int(width) <= MOST_WIDTH:
            raise ConfigurationError(f"{width!r} is no width in pixels, {LEAST_WIDTH} to {MOST_WIDTH}")
        super().__init__(every, options={"width": int(width)})
