"""The pictures since the last keyframe, for when no more come: it stands in for them, and all can be decoded again."""

from __future__ import annotations

from dataclasses import replace

from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.media import Frame, Rhythm

__all__ = ["LastGop"]

#: A GOP of more pictures, or of more bytes, is not decoded again.
MOST_FRAMES, MOST_BYTES = 1_000, 32 << 20


class LastGop:
    """The cuts since the last keyframe of one range; of a GOP that is too long, none."""

    def __init__(self) -> None:
        self._cuts: list[Cut] = []
        self._count = 0
        self._frames: list[Frame] = []

    def closed(self, cut: Cut) -> None:
        """Learn of a cut that is complete."""
        if cut.has_keyframe:
            self._cuts.clear()
            self._count = 0
        elif not self._cuts:
            return
        self._cuts.append(cut)
        self._count += len(cut.samples)
        if self._count > MOST_FRAMES:
            self._cuts.clear()

    def is_whole(self, cut: Cut, loose: Frame | None) -> bool:
        """
        Whether the pictures since the last keyframe are there; they are kept for a pause that begins.

        :param cut: that is open; ``loose`` is the newest frame, if it is in none yet.
        """
        frames = [sample.frame for each in (*self._cuts, cut) for sample in each.samples]
        if loose is not None:
            frames.append(loose)
        keyframes = [index for index, frame in enumerate(frames) if frame.keyframe]
        self._frames = frames[keyframes[-1] :] if keyframes else []
        return 0 < len(self._frames) <= MOST_FRAMES and sum(len(frame.data) for frame in self._frames) <= MOST_BYTES

    def still(self, loose: Frame | None, at: int, offset: int, duration: int) -> Frame:
        """The keyframe once more, to be decoded ``at`` a time and presented behind all that has been."""
        shown = [frame.pts + max(1, frame.duration // 2) for frame in self._frames]
        if loose is not None:
            shown.append(loose.pts + 1)
        rhythm = Rhythm(self._frames[-1].rhythm.frame_rate, duration, duration, is_steady=True)
        offset = max(offset, 0, max(shown) - at)
        return replace(
            self._frames[0], dts=at, composition_offset=offset, duration=duration, keyframe=True, rhythm=rhythm
        )

    def again(self, still: Frame, before: int) -> list[Frame]:
        """
        The pictures to be decoded once more, a tick each, up to a decode time or as soon behind a still as may be. They
        keep their order of presentation.
        """
        frames = self._frames
        order = sorted(range(len(frames)), key=lambda index: frames[index].pts)
        ranks = {index: rank for rank, index in enumerate(order)}
        delay = max(index - rank for index, rank in ranks.items())
        start = max(still.dts + 1, before - len(frames) - delay)
        shown = max(start + delay, still.pts + 1)
        return [
            replace(frame, dts=start + index, composition_offset=shown + ranks[index] - start - index, duration=1)
            for index, frame in enumerate(frames)
        ]
