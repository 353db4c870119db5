"""
A stored playlist made into a window again, to be resumed.

What was published and never stored cannot be brought back: its numbers become gaps, so that the playlist reaches at
least as far as any that players have seen. Together they last as long as the server was away, in reason, because the
dates of what follows come from the wall clock.
"""

from __future__ import annotations

from rapidrtmp.errors import MediaError
from rapidrtmp.hls.names import is_init, is_media
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.state import RENEW_BELOW, StoredState
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import Constants
from rapidrtmp.m3u8.model import InitSegment, MediaPlaylist, Segment

__all__ = ["bridge", "named_media", "reopen"]

#: Durations are written in these units: nothing is lost in reading them back.
TIMESCALE = 100_000
SHORTEST_GAP_MS = 100


def reopen(playlist: MediaPlaylist, constants: Constants, size: int) -> PlaylistWindow:
    """
    The window that a stored playlist was written from.

    :param constants: what it promised.
    :param size: how many segments it shall list.
    :raises MediaError: it is not one of ours, or it lists nothing.
    """
    _check(playlist, constants)
    window = PlaylistWindow(constants, size, playlist.sequence, playlist.discontinuity_sequence)
    start = 0
    for segment in playlist.segments:
        listed = _listed(segment, start, keyframe=playlist.independent_segments)
        window.append(listed)
        start = listed.end
    window.ended = playlist.ended
    return window


def _check(playlist: MediaPlaylist, constants: Constants) -> None:
    if playlist.problems:
        problem = playlist.problems[0]
        raise MediaError(f"line {problem.line} of the stored playlist: {problem.detail}")
    if playlist.target_s != constants.target_s:
        raise MediaError(f"the stored playlist promises {playlist.target_s} s, its state {constants.target_s} s")
    if not playlist.segments:
        raise MediaError("the stored playlist lists nothing")
    for segment in playlist.segments:
        is_ours = is_media(segment.uri) and segment.init is not None and is_init(segment.init.uri)
        if not is_ours or segment.date_us is None:
            raise MediaError(f"segment {segment.sequence} of the stored playlist is not one of ours")


def _listed(segment: Segment, start: int, *, keyframe: bool) -> ListedSegment:
    assert segment.init is not None and segment.date_us is not None
    return ListedSegment.make(
        segment.sequence,
        segment.init,
        segment.date_us // 1000,
        start,
        start + segment.duration_us * TIMESCALE // 1_000_000,
        TIMESCALE,
        keyframe=keyframe,
        discontinuity=segment.discontinuity,
        gap=segment.gap,
        uri=segment.uri,
    )


def bridge(window: PlaylistWindow, state: StoredState, now_ms: int) -> None:
    """
    List gaps up to the first number that surely no player has seen, and nothing that players may have seen removed.

    Of discontinuities that were seen and not stored the numbers must not come again with other media behind them: as
    many of the gaps begin with one. The state knows of them; and where there are gaps at the end already, the process
    that is no more had continued from them, and what it sent began with one, even if not so much as that is stored.

    :param state: knows that number, if the storage was not slow: then it may be older than the playlist. One segment
        that was complete and one that was open are always reckoned with.
    :param now_ms: in milliseconds since 1970; the gaps reach up to here, if that is not too far, and far enough for the
        playlist to last three target durations.
    """
    last = window.segments[-1]
    next_sequence = max(state.next_sequence, window.next_sequence + RENEW_BELOW)
    broken = max((state.discontinuity or 0) - window.last_discontinuity, int(last.gap))
    oldest = next_sequence - 1 - window.size  # no playlist of this size can have begun behind it
    window.forget_before(oldest)
    count = next_sequence - window.next_sequence
    end, date_ms = last.end * TIMESCALE // last.timescale, last.utc_ms + last.duration_ms
    each_ms = _gap_ms(window, count, now_ms - date_ms)
    last_init = InitSegment(last.map_uri)
    for index in range(count):
        window.begin_segment(
            init=last_init,
            utc_ms=date_ms,
            discontinuity=index < broken,
            start=end,
            timescale=TIMESCALE,
            keyframe=last.keyframe,
        )
        date_ms, end = date_ms + each_ms, end + each_ms * TIMESCALE // 1000
        window.complete_segment(end, size=0)


def _gap_ms(window: PlaylistWindow, count: int, away_ms: int) -> int:
    """How long each gap lasts."""
    target_ms = 1000 * window.constants.target_s
    missing_ms = 3 * target_ms - sum(segment.duration_ms for segment in window.segments)
    return min(max(SHORTEST_GAP_MS, away_ms // count, -(-missing_ms // count)), target_ms)


def named_media(window: PlaylistWindow) -> set[str]:
    """Every init segment and segment that a window needs."""
    inits = {segment.map_uri for segment in window.segments}
    return inits | {segment.uri for segment in window.segments if not segment.gap}
