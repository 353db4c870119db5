"""
From open GOPs to closed ones: every keyframe of a track becomes an IDR picture.

Chromium and Safari begin at IDR pictures alone; encoders may send none but the first, and from there on intra pictures
with a recovery point. Such a picture becomes an IDR picture where it stands, if none that is decoded after it is shown
before it. Otherwise those leading pictures need both this one and others from before it: so it stays what it is, as a
part of the GOP before, and comes again as an IDR picture behind its leading pictures. No picture is lost, none is coded
anew, and those that follow only get other numbers (``avc_slice.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rapidrtmp.codec.avc import AVC_SYNTAX
from rapidrtmp.codec.avc_nal import AUD, IDR_SLICE, SLICE, nal_type
from rapidrtmp.codec.avc_slice import Numbers, SliceWriter
from rapidrtmp.codec.nal import join_lengths, split_nals
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Frame, VideoConfig

__all__ = ["AvcCloser"]


#: ``frame_num`` wraps no sooner than this: it has 4 bits or more.
LEAST_FRAME_NUMBERS = 16


class _Again(NamedTuple):
    """A keyframe that is to come again: its IDR picture, and the numbers that those behind it count from."""

    frame: Frame
    data: bytes
    numbers: Numbers


class AvcCloser:
    """
    Closes the GOPs of one track. It may begin at any frame of a range of the timeline that has begun with an IDR
    picture; where another range begins it is to learn of that.

    :ivar left_open: how many keyframes in a row, up to the last one, are no IDR pictures and could not become any.
    """

    def __init__(self, config: VideoConfig) -> None:
        self.left_open = 0
        self._idr_id = 0
        self._dts = -1  # of the last frame
        self._config = config
        self._begin()
        self._is_first = False

    def _begin(self) -> None:
        self._length_size, sets = AVC_SYNTAX.sets_of_record(self._config.record)
        try:
            self._writer: SliceWriter | None = SliceWriter(sets)
        except MediaError:
            self._writer = None  # its pictures are left as they are
        self._base: Numbers | None = None  # of the last IDR picture, if that was made here
        self._behind = 0  # how many pictures came since
        self._again: _Again | None = None

    def begin(self, config: VideoConfig | None) -> None:
        """
        Learn that a range begins with the next frame, a keyframe; nothing before it is of use then.

        :param config: ``None`` if it is as it was.
        """
        self._config = config or self._config
        self._begin()
        self._is_first = True

    def close(self, frame: Frame) -> Sequence[Frame]:
        """The next frame as a part of a closed GOP, and in front of it a keyframe that comes again."""
        nals = split_nals(AVC_SYNTAX, frame.data, self._length_size)
        is_idr = any(nal_type(nal) == IDR_SLICE for nal in nals)
        again, out = self._again, []
        if again is not None and (is_idr or frame.pts > again.frame.pts):
            self._again = None
            if not is_idr:
                self._base, self._behind = again.numbers, 0
                idr, frame = _in_front(again, frame)
                out.append(idr)
        if is_idr:
            self._base, self.left_open = None, 0
        elif frame.keyframe:
            frame = self._close_at(frame, nals)
        else:
            frame = self._renumbered(frame, nals)
        self._is_first = False
        return [self._placed(each) for each in (*out, frame)]

    def _close_at(self, frame: Frame, nals: Sequence[bytes]) -> Frame:
        """A keyframe that is no IDR picture: made one, or kept until its leading pictures are over."""
        try:
            numbers, made = self._as_idr(nals)
        except MediaError:
            self.left_open += 1
            return self._renumbered(frame, nals)
        self.left_open = 0
        if self._is_first or frame.composition_offset <= 0:
            self._base, self._behind = numbers, 0
            return replace(frame, data=join_lengths(made, self._length_size))
        alone = [nal for nal in made if nal_type(nal) in (AUD, IDR_SLICE)]
        self._again = _Again(frame, join_lengths(alone, self._length_size), numbers)
        return replace(self._renumbered(frame, nals), keyframe=False)

    def _as_idr(self, nals: Sequence[bytes]) -> tuple[Numbers, list[bytes]]:
        if self._writer is None:
            raise MediaError("its parameter sets say more than is known here")
        self._idr_id ^= 1
        slices = [nal for nal in nals if nal_type(nal) == SLICE]
        made = [self._writer.as_idr(nal, self._idr_id) if nal_type(nal) == SLICE else nal for nal in nals]
        return self._writer.numbers(slices[0]), made

    def _renumbered(self, frame: Frame, nals: Sequence[bytes]) -> Frame:
        base = self._base
        if self._writer is None or base is None:
            return frame
        self._behind += 1
        is_early, write = self._behind < LEAST_FRAME_NUMBERS, self._writer.renumber
        try:
            made = [write(nal, base, is_early=is_early) if nal_type(nal) == SLICE else nal for nal in nals]
        except MediaError:
            return frame
        return replace(frame, data=join_lengths(made, self._length_size))

    def _placed(self, frame: Frame) -> Frame:
        """The frame behind the one before it, for decode times rise; it is shown when it was to be."""
        if frame.dts <= self._dts:
            dts = self._dts + 1
            frame = replace(frame, dts=dts, composition_offset=frame.pts - dts, duration=max(1, frame.duration - 1))
        self._dts = frame.dts
        return frame


def _in_front(again: _Again, frame: Frame) -> tuple[Frame, Frame]:
    """A keyframe that comes again takes the first half of a frame's time, and is shown right behind itself."""
    half = max(1, frame.duration // 2)
    shown = max(again.frame.pts + 1, frame.dts)
    idr = replace(
        again.frame,
        data=again.data,
        dts=frame.dts,
        composition_offset=shown - frame.dts,
        duration=half,
        arrived_ms=frame.arrived_ms,
    )
    later = replace(
        frame,
        dts=frame.dts + half,
        composition_offset=frame.composition_offset - half,
        duration=max(1, frame.duration - half),
    )
    return idr, later
