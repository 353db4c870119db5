"""
Pictures that come in pieces: one message for each slice, or even for each parameter set, SEI and delimiter.

Slices are joined by their timestamp and their first block: one that is not the picture's first goes to the picture
before. That a picture is whole is only seen from what follows, and no ordinary stream is made to wait for it: the first
picture alone waits, at the start of a publish, when nothing leaves anyway. If it was whole, messages are from then on
taken for whole pictures, and this reader is not asked again until one holds no picture, or continues another.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidrtmp.codec.nal import NalSyntax, split_nals
from rapidrtmp.codec.nal_reader import NalReader
from rapidrtmp.codec.pieces import MOST_PIECES, Moment, Unit
from rapidrtmp.errors import MediaError, TooManyPiecesError
from rapidrtmp.media import VideoConfig

__all__ = ["NalPieces"]

#: Timestamps of one picture's slices may differ by this much, if their blocks continue.
_SLACK_MS = 10
#: How long a picture waits for further slices while nothing follows.
_PATIENCE_MS = 1_000
#: So many messages without a slice go in front of a picture; more are no part of any.
_MOST_OPENERS = 16
_MOST_BYTES = 32 << 20
_MASK = 0xFFFFFFFF


class _Held:
    """
    An access unit that may not be whole.

    :ivar body: the body that it came in, if that was one.
    :ivar messages: how many it came in.
    :ivar size: of them, in bytes.
    :ivar last_block: the first block of its last slice; -1 without slices.
    """

    __slots__ = ("body", "last_block", "messages", "moment", "nals", "size")

    def __init__(self, nals: list[bytes], body: bytes, moment: Moment, last_block: int) -> None:
        self.nals = nals
        self.body = body
        self.moment = moment
        self.messages = 1
        self.size = len(body)
        self.last_block = last_block

    def join(self, nals: list[bytes], moment: Moment, last_block: int) -> None:
        """Take a further piece; the picture's times are those of its first slice."""
        times = moment if self.last_block < 0 <= last_block else self.moment
        self.moment = times._replace(now_ms=moment.now_ms)
        self.last_block = max(self.last_block, last_block)
        self.nals += nals
        self.size += sum(map(len, nals))
        self.messages += 1
        self.body = b""


class NalPieces:
    """
    Puts together the access units of one track.

    :param reader: reads those that are whole.
    :param before: what put together the track's units before its configuration was replaced.
    """

    def __init__(self, reader: NalReader, before: NalPieces | None = None) -> None:
        self.reader = reader
        self.keyframe = False
        self.samples = 0
        self.problems: list[tuple[str, str]] = []
        self._syntax: NalSyntax = reader.syntax
        self._is_proven: bool = before is not None and before._is_proven
        self._splits: bool = before is not None and before._splits
        self._held: _Held | None = None

    @property
    def config(self) -> VideoConfig:
        """The configuration in force."""
        return self.reader.config

    @property
    def is_needed(self) -> bool:
        """See :class:`~rapidrtmp.codec.pieces.PieceReader`; likewise the other methods."""
        return self._held is not None or self._splits or not self._is_proven

    def read(self, body: bytes) -> bytes | None:  # noqa: ARG002
        """Take nothing."""
        return None

    def add(self, body: bytes, moment: Moment) -> Sequence[Unit]:
        """Take the body of a message."""
        nals = split_nals(self._syntax, body, self.reader.length_size)
        if not nals:
            return ()
        units: list[Unit] = []
        held = self._held
        slices = self._syntax.slices_of(nals)
        if held is None or held.last_block < 0:
            if slices and not self._syntax.begins_picture(slices[0]):
                self._splits = True
                self._stray()
                return ()
            self._open(held, nals, body, moment)
        elif self._belongs(held, nals, slices, moment):
            held.join(nals, moment, self._last_block(nals))
            self._splits = self._splits or bool(slices)
            self._check_size(held)
        else:
            self._close(units)
            if slices and not self._syntax.begins_picture(slices[0]):
                self._stray()
            else:
                self._open(None, nals, body, moment)
        if self._is_proven and not self._splits and self._held is not None and self._held.last_block >= 0:
            self._close(units)
        return units

    def settle(self, now_ms: int | None = None) -> Sequence[Unit]:
        """Give up waiting."""
        held, units = self._held, list[Unit]()
        if (
            held is not None
            and held.last_block >= 0
            and (now_ms is None or now_ms - held.moment.now_ms >= _PATIENCE_MS)
        ):
            self._close(units)
        return units

    def _check_size(self, held: _Held) -> None:
        """Drop a picture that has grown beyond any that there are."""
        if len(held.nals) > MOST_PIECES:
            error = TooManyPiecesError(MOST_PIECES, "NAL units in an access unit")
            self.problems.append((error.problem, f"video: {error}"))
        elif held.size > _MOST_BYTES:
            self.problems.append(("malformed", f"a picture of more than {_MOST_BYTES} bytes"))
        else:
            return
        self._held = None

    def _belongs(self, held: _Held, nals: Sequence[bytes], slices: Sequence[bytes], moment: Moment) -> bool:
        """Whether a message continues the picture that is held."""
        if not slices:
            return self._syntax.type_of(nals[0]) not in self._syntax.openers
        if self._syntax.type_of(nals[0]) in self._syntax.openers or self._syntax.begins_picture(slices[0]):
            return False
        apart_ms = (moment.timestamp - held.moment.timestamp + _SLACK_MS) & _MASK
        return moment.timestamp == held.moment.timestamp or (
            apart_ms <= 2 * _SLACK_MS and self._first_block(slices[0], held.last_block + 1) > held.last_block
        )

    def _open(self, held: _Held | None, nals: list[bytes], body: bytes, moment: Moment) -> None:
        """Begin an access unit, behind what came before its picture."""
        if held is None:
            self._held = _Held(nals, body, moment, self._last_block(nals))
        elif held.messages < _MOST_OPENERS:
            held.join(nals, moment, self._last_block(nals))
        else:
            self.problems.append(("no_picture", f"{held.messages} video messages without a picture"))
            self._held = _Held(nals, body, moment, self._last_block(nals))

    def _close(self, units: list[Unit]) -> None:
        """Read the access unit that is held: it is whole."""
        held, self._held = self._held, None
        assert held is not None
        self._is_proven = True
        try:
            data = self.reader.read_unit(held.nals, held.body)
        except MediaError as error:
            self.problems.append((error.problem, f"video: {error}"))
            return
        if data:
            units.append(Unit(held.moment, self.reader.config, self.reader.keyframe, 0, data))

    def _stray(self) -> None:
        self.problems.append(("no_picture", "slices of a picture that has left without them, or never began"))

    def _last_block(self, nals: Sequence[bytes]) -> int:
        return max((self._first_block(nal, 0) for nal in self._syntax.slices_of(nals)), default=-1)

    def _first_block(self, nal: bytes, otherwise: int) -> int:
        """Where a slice begins; ``otherwise`` where it does not say."""
        try:
            first_block = self._syntax.slice_start(nal).first_block
        except MediaError:
            return 0
        return otherwise if first_block is None else first_block
