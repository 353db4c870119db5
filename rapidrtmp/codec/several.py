"""Messages that hold several frames of audio, one behind the other: each gets the time at which it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from rapidrtmp.codec.pieces import MOST_FRAMES, Moment, Unit
from rapidrtmp.errors import TooManyPiecesError
from rapidrtmp.media import AudioConfig

__all__ = ["SeveralFrames", "SplittingReader", "later"]


class SplittingReader(Protocol):
    """The reader of a track's frames, which takes messages apart as well."""

    config: AudioConfig
    samples: int

    def split(self, body: bytes) -> Iterator[bytes]:
        """
        The frames in the body of a message, each read when it is asked for; :attr:`config` and :attr:`samples` are
        always those of the latest.

        :raises MediaError: one of them cannot be read.
        """


class SeveralFrames:
    """Takes messages apart that hold several frames; of those that hold one it gets none."""

    def __init__(self, reader: SplittingReader, before: object = None) -> None:  # noqa: ARG002
        self.reader = reader
        self.keyframe = True
        self.problems: list[tuple[str, str]] = []

    @property
    def config(self) -> AudioConfig:
        """The configuration in force."""
        return self.reader.config

    @property
    def samples(self) -> int:
        """How long the latest frame lasts."""
        return self.reader.samples

    @property
    def is_needed(self) -> bool:
        """See :class:`~rapidrtmp.codec.pieces.PieceReader`; likewise the other methods."""
        return False

    def read(self, body: bytes) -> bytes | None:  # noqa: ARG002
        """Take nothing."""
        return None

    def add(self, body: bytes, moment: Moment) -> Sequence[Unit]:
        """Take the body of a message."""
        units: list[Unit] = []
        passed_ns = 0
        for count, data in enumerate(self.reader.split(body) if body else ()):
            if count == MOST_FRAMES:
                raise TooManyPiecesError(MOST_FRAMES, "frames in an audio message")
            config, samples = self.reader.config, self.reader.samples
            if data:
                units.append(Unit(later(moment, passed_ns), config, True, samples, data))
            passed_ns += samples * 1_000_000_000 // config.sample_rate
        return units

    def settle(self, now_ms: int | None = None) -> Sequence[Unit]:  # noqa: ARG002
        """Nothing waits."""
        return ()


def later(moment: Moment, ns: int) -> Moment:
    """The same moment, so many nanoseconds later by the publisher's clock."""
    milliseconds, nanoseconds = divmod(moment.nanoseconds + ns, 1_000_000)
    return moment._replace(timestamp=moment.timestamp + milliseconds & 0xFFFFFFFF, nanoseconds=nanoseconds)
