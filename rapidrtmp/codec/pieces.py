"""
Access units that do not come one to a message, and what all readers of such pieces hand out.

An encoder may send each NAL unit of a picture in a message of its own, all with the picture's timestamp, or several
audio frames in one. Readers of pieces put together what belongs together, and take apart what does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from rapidrtmp.media import CodecConfig

__all__ = ["MOST_FRAMES", "MOST_PIECES", "Moment", "PieceReader", "Unit"]

#: What one picture may be made of: NAL units or OBUs. A picture of 8K has fewer rows of blocks, or slices of a network
#: packet each. More would cost: a unit takes the time of many bytes, and a message may hold millions.
MOST_PIECES = 1_024
#: Frames of audio that one message may hold.
MOST_FRAMES = 128


class Moment(NamedTuple):
    """When a message is to be decoded and presented, in the fields of its headers, and when it came."""

    timestamp: int
    nanoseconds: int
    composition_ms: int
    now_ms: int


class Unit(NamedTuple):
    """
    A sample that was put together.

    :ivar moment: its times; it came when its last piece did.
    :ivar config: how it is to be decoded.
    :ivar keyframe: whether decoding may start here.
    :ivar samples: how long it lasts, in samples of the track's clock; 0 for video, which does not say.
    :ivar data: the sample as MP4 stores it.
    """

    moment: Moment
    config: CodecConfig
    keyframe: bool
    samples: int
    data: bytes


class PieceReader(Protocol):
    """
    Reads messages that may be pieces.

    It stands in for the plain reader as long as :attr:`is_needed`: its ``read`` takes nothing and returns ``None``, and
    what the messages hold is to be given to :meth:`add`.

    :ivar problems: what came to nothing since this was last emptied: the kind of the problem, and a sentence of it.
    """

    problems: list[tuple[str, str]]

    @property
    def config(self) -> Any:
        """The configuration in force."""

    @property
    def keyframe(self) -> bool:
        """Whether decoding may start at the frame read last."""

    @property
    def samples(self) -> int:
        """How long that lasts, in samples of the track's clock; 0 for video, which does not say."""

    def read(self, body: bytes) -> bytes | None:
        """Take nothing."""

    @property
    def is_needed(self) -> bool:
        """Whether messages have to come here, and not to the plain reader."""

    def add(self, body: bytes, moment: Moment) -> Sequence[Unit]:
        """
        Take the body of a message; returns the samples that are whole with it.

        :raises MediaError: it cannot be read.
        """

    def settle(self, now_ms: int | None = None) -> Sequence[Unit]:
        """
        The samples that are not waited for any longer.

        :param now_ms: the time; ``None`` at the end, when nothing follows.
        """
