"""
E-AC-3: sync frames of one to six blocks (ETSI TS 102 366, annex E) to what an ``ec-3`` track stores.

A sample is an access unit: six blocks of 256 samples of each substream (annex F, 5). As a rule that is one sync frame,
or one for each substream; where frames have fewer blocks several make a unit, and come in messages of their own.
The configuration is the payload of ``dec3`` (F.6), made of the first unit; a change of the data rate in it is no news.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rapidrtmp.codec.ac3 import CHANNELS, FRAME_SAMPLES, SAMPLE_RATES, SYNC_WORD
from rapidrtmp.codec.bits import BitReader
from rapidrtmp.codec.pieces import Moment, Unit
from rapidrtmp.errors import MediaError, TooManyPiecesError
from rapidrtmp.media import AudioConfig

__all__ = ["Eac3Pieces", "Eac3Reader", "eac3_of_frame", "read_dec3"]

_DEPENDENT = 1  # of stream types
_BLOCKS = (1, 2, 3, 6)
_UNIT_BLOCKS = 6
_VERSIONS = range(11, 17)  # bsid
#: Where channels are that a dependent substream adds: bit 5 of its map and on (E.1.3.1.8), in ``dec3`` from the lowest.
_LOCATIONS = (2, 2, 1, 1, 2, 2, 2, 1, 1)
_FIRST_LOCATION, _SECOND_LOW_FREQUENCY = 5, 14
_LONGEST_UNIT = 64  # frames: eight substreams of each kind, and more blocks than that would take


class _Frame(NamedTuple):
    """
    One sync frame.

    :ivar kind: its stream type: independent, dependent, or independent and once AC-3.
    :ivar substream: its number among those of its kind.
    :ivar blocks: how many of 256 samples there are.
    :ivar version: bsid.
    :ivar locations: where the channels are that a dependent one adds, as ``dec3`` says it.
    """

    kind: int
    substream: int
    sample_rate: int
    rate_code: int
    blocks: int
    mode: int
    low_frequency: int
    version: int
    locations: int
    data: bytes

    @property
    def begins_blocks(self) -> bool:
        """Whether it is the first of the frames that belong to the same moment."""
        return self.kind != _DEPENDENT and not self.substream


def _read_frame(body: bytes, offset: int) -> _Frame:
    """
    Read the sync frame at ``offset`` (E.1.2.2).

    :raises MediaError: there is none, or it is not all there.
    """
    if not body.startswith(SYNC_WORD, offset):
        raise MediaError(f"no E-AC-3 sync frame at {offset}, but {body[offset : offset + 6].hex(' ')}")
    bits = BitReader(body[offset + 2 : offset + 24])
    kind, substream, size = bits.u(2), bits.u(3), 2 * (bits.u(11) + 1)
    rate, short = bits.u(2), bits.u(2)
    sample_rate = SAMPLE_RATES[short if rate == 3 else rate] // (2 if rate == 3 else 1) if min(rate, short) < 3 else 0
    blocks = _UNIT_BLOCKS if rate == 3 else _BLOCKS[short]
    mode, low_frequency, version = bits.u(3), bits.u(1), bits.u(5)
    if kind > 2 or not sample_rate or version not in _VERSIONS:
        raise MediaError(f"E-AC-3 sync frame of type {kind}, rate {rate} and version {version}")
    if size > len(body) - offset:
        raise MediaError(f"E-AC-3 sync frame of {size} bytes, {len(body) - offset} are there")
    locations = _read_locations(bits, mode) if kind == _DEPENDENT else 0
    data = body[offset : offset + size]
    return _Frame(kind, substream, sample_rate, rate, blocks, mode, low_frequency, version, locations, data)


def _read_locations(bits: BitReader, mode: int) -> int:
    """What a dependent substream adds, as ``dec3`` says it; 0 if it does not tell."""
    for _ in range(1 if mode else 2):
        bits.u(5)  # dialogue normalisation
        if bits.flag():
            bits.u(8)  # compression gain
    if not bits.flag():
        return 0
    channel_map = f"{bits.u(16):016b}"
    places = [*range(_FIRST_LOCATION, _FIRST_LOCATION + len(_LOCATIONS) - 1), _SECOND_LOW_FREQUENCY]
    return sum(1 << index for index, place in enumerate(places) if channel_map[place] == "1")


def _read_frames(body: bytes) -> list[_Frame]:
    """The sync frames of a message. Raises ``MediaError`` if one of them cannot be read."""
    frames, offset = list[_Frame](), 0
    while offset < len(body):
        frames.append(_read_frame(body, offset))
        offset += len(frames[-1].data)
        if len(frames) > _LONGEST_UNIT:
            raise TooManyPiecesError(_LONGEST_UNIT, "E-AC-3 sync frames in one message")
    return frames


# ── the configuration ────────────────────────────────────────────────────────────────────────────────────────────────


def _write_dec3(frames: Sequence[_Frame]) -> bytes:
    """The payload of ``dec3`` (F.6) for an access unit, or the beginning of one."""
    first = frames[0]
    rate = 8 * sum(len(frame.data) for frame in frames) * first.sample_rate
    rate //= 1000 * 256 * sum(frame.blocks for frame in frames if frame.begins_blocks)
    substreams: list[list[_Frame]] = []
    for frame in _one_moment(frames):
        if frame.kind != _DEPENDENT:
            substreams.append([frame])
        else:
            substreams[-1].append(frame)
    record = (min(rate, 0x1FFF) << 3 | len(substreams) - 1).to_bytes(2, "big")
    return record + b"".join(map(_write_substream, substreams))


def _one_moment(frames: Sequence[_Frame]) -> Iterator[_Frame]:
    """The frames of the first blocks, of all substreams."""
    for at, frame in enumerate(frames):
        if at and frame.begins_blocks:
            return
        yield frame


def _write_substream(frames: Sequence[_Frame]) -> bytes:
    """What ``dec3`` says of one independent substream and of those that depend on it."""
    frame, *dependents = frames
    bits = frame.rate_code << 22 | frame.version << 17 | frame.mode << 9 | frame.low_frequency << 8
    record = (bits | len(dependents) << 1).to_bytes(3, "big")
    if not dependents:
        return record
    locations = 0
    for dependent in dependents:
        locations |= dependent.locations
    return record[:2] + bytes([record[2] | locations >> 8, locations & 0xFF])


def read_dec3(record: bytes) -> AudioConfig:
    """
    Read the payload of a ``dec3`` box (F.6); of several independent substreams the first is what the track plays.

    :raises MediaError: it is cut short, or of no usable rate.
    """
    bits = BitReader(record)
    bits.u(13)
    substreams = bits.u(3) + 1
    rate, version = bits.u(2), bits.u(5)
    bits.u(1 + 1 + 3)
    channels = CHANNELS[bits.u(3)] + bits.u(1)
    bits.u(3)
    if bits.u(4):
        locations = bits.u(9)
        channels += sum(count for index, count in enumerate(_LOCATIONS) if locations >> index & 1)
    # A half rate is not in here; only the frames have it.
    sample_rate = SAMPLE_RATES[rate] if rate < len(SAMPLE_RATES) else 24_000
    if version not in _VERSIONS or len(record) < 2 + 3 * substreams:
        raise MediaError(f"dec3 of {len(record)} bytes with {substreams} substreams, version {version}")
    return AudioConfig(record, "ec-3", sample_rate, channels, FRAME_SAMPLES)


def _config_of(frames: Sequence[_Frame]) -> AudioConfig:
    config = read_dec3(_write_dec3(frames))
    return AudioConfig(config.record, config.codec_string, frames[0].sample_rate, config.channels, FRAME_SAMPLES)


def eac3_of_frame(body: bytes) -> AudioConfig:
    """The configuration of a track by its first message. Raises ``MediaError`` if that begins no unit."""
    frames = _read_frames(body)
    if not frames or not frames[0].begins_blocks:
        raise MediaError("E-AC-3 that begins in the middle of its substreams")
    return _config_of(frames)


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Eac3Reader:
    """
    Reads the access units of one E-AC-3 track, which are stored as they come.

    :ivar config: the configuration in force; another one after a unit of another rate or other channels.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long a unit lasts.
    """

    __slots__ = ("config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = FRAME_SAMPLES

    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        :returns: the body if it is one access unit; ``None`` if it is a part of one, or several, or empty.
        :raises MediaError: it is cut short, or no E-AC-3.
        """
        frames = _read_frames(body)
        beginnings = [frame.blocks for frame in frames if frame.begins_blocks]
        if not frames or not frames[0].begins_blocks or sum(beginnings) != _UNIT_BLOCKS:
            return None
        self.take_unit(frames)
        return body

    def take_unit(self, frames: Sequence[_Frame]) -> None:
        """Learn of a unit's configuration."""
        record, known = _write_dec3(frames), self.config
        is_same = record[1] & 7 == known.record[1] & 7 and record[2:] == known.record[2:]
        if not is_same or frames[0].sample_rate != known.sample_rate:
            self.config = _config_of(frames)


class Eac3Pieces:
    """Makes access units of sync frames that do not come six blocks to a message."""

    def __init__(self, reader: Eac3Reader, before: Eac3Pieces | None = None) -> None:  # noqa: ARG002
        self.reader = reader
        self.keyframe = True
        self.samples = FRAME_SAMPLES
        self.problems: list[tuple[str, str]] = []
        self._frames: list[_Frame] = []  # of the unit that is not whole yet
        self._blocks = 0  # of its first substream
        self._moment = Moment(0, 0, 0, 0)

    @property
    def config(self) -> AudioConfig:
        """The configuration in force."""
        return self.reader.config

    @property
    def is_needed(self) -> bool:
        """See :class:`~rapidrtmp.codec.pieces.PieceReader`; likewise the other methods."""
        return bool(self._frames)

    def read(self, body: bytes) -> bytes | None:  # noqa: ARG002
        """Take nothing."""
        return None

    def add(self, body: bytes, moment: Moment) -> Sequence[Unit]:
        """Take the body of a message."""
        units: list[Unit] = []
        passed = 0  # samples, since the message began
        for frame in _read_frames(body):
            if frame.begins_blocks:
                if self._blocks + frame.blocks > _UNIT_BLOCKS:
                    units += self._finish()
                if not self._frames:
                    self._moment = _after(moment, passed, frame.sample_rate)
                self._blocks += frame.blocks
                passed += 256 * frame.blocks
            elif not self._frames:
                self.problems.append(("malformed", "E-AC-3 frame of a further substream before one of the first"))
                continue
            self._frames.append(frame)
            if len(self._frames) > _LONGEST_UNIT:
                self._drop()
        return units + self._finish() if self._blocks == _UNIT_BLOCKS else units

    def _finish(self) -> list[Unit]:
        """The unit that has come so far, if it is whole."""
        if self._blocks != _UNIT_BLOCKS:
            self._drop()
            return []
        self.reader.take_unit(self._frames)
        data = b"".join(frame.data for frame in self._frames)
        self._frames, self._blocks = [], 0
        return [Unit(self._moment, self.reader.config, True, FRAME_SAMPLES, data)]

    def _drop(self) -> None:
        if self._frames:
            self.problems.append(("malformed", f"E-AC-3 access unit of {self._blocks} blocks, {_UNIT_BLOCKS} wanted"))
        self._frames, self._blocks = [], 0

    def settle(self, now_ms: int | None = None) -> Sequence[Unit]:
        """A unit that is not whole is waited for until the end."""
        if now_ms is None:
            self._drop()
        return ()


def _after(moment: Moment, samples: int, sample_rate: int) -> Moment:
    """A moment so many samples later."""
    milliseconds, nanoseconds = divmod(moment.nanoseconds + samples * 1_000_000_000 // sample_rate, 1_000_000)
    return moment._replace(timestamp=moment.timestamp + milliseconds & 0xFFFFFFFF, nanoseconds=nanoseconds)
