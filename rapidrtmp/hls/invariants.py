"""
What must be true of each version of our own playlists, and of the way there from the one before (RFC 8216 bis, 6.2).

These are checks of the frozen values that the text is written from, so most of a version needs none: what is the same
object as before was judged before. They know our names and our order, and are stricter for that than the rules that
hold for any server's playlists (``rapidrtmp.m3u8.transitions``), which the tests hold the written text to.

Each function yields one line for each violation, with the numbers in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rapidrtmp.hls.names import part_name, segment_name
from rapidrtmp.hls.playlist import KEPT_TARGETS, SKIP_TARGETS, Version
from rapidrtmp.m3u8.model import MediaPlaylist, Part, Segment

__all__ = ["version_violations"]

#: Shortest part in relation to the part target, in percent (4.4.4.9).
SHORTEST_PART_PERCENT = 85
#: How far dates may be from what the time before them says, and parts from their segment, for all that is rounded.
DATE_TOLERANCE_US, SUM_TOLERANCE_US = 1_000_000, 1_000
#: How far what leaves may be from its time: listed durations are rounded, and those it is measured by are not.
TIME_TOLERANCE_US = 10_000


def version_violations(after: Version, before: Version | None, *, gapless: bool = True) -> Iterator[str]:
    """
    What is wrong with a version. Nothing is the usual answer.

    :param before: the version that players have; ``None`` if this is the first.
    :param gapless: whether ``before`` came right before it, so that it must have listed whatever is gone.
    """
    playlist = after.playlist
    if before is None:
        yield from _new_segments(playlist, 0, None)
    else:
        yield from _constants(playlist, before.playlist)
        yield from _segments(playlist, before.playlist, gapless=gapless)
    yield from _open(playlist, before.playlist if before else None)
    yield from _hint(playlist, before.playlist if before else None)
    if after.skipped:
        yield from _delta(after, before if gapless else None)


def _constants(after: MediaPlaylist, before: MediaPlaylist) -> Iterator[str]:
    """What players take for constant."""
    if (after.target_s, after.part_target_us, after.version, after.control) != (
        before.target_s,
        before.part_target_us,
        before.version,
        before.control,
    ):
        yield (
            f"promises change: target {before.target_s} to {after.target_s} s, part target {before.part_target_us} to "
            f"{after.part_target_us} us, version {before.version} to {after.version}, "
            f"{dict(before.control)} to {dict(after.control)}"
        )
    if after.independent_segments and not before.independent_segments:
        yield "that all segments can be decoded alone is claimed again"
    if before.ended and not after.ended:
        yield "the playlist continues after its end"


# ── complete segments ────────────────────────────────────────────────────────────────────────────────────────────────


def _segments(after: MediaPlaylist, before: MediaPlaylist, *, gapless: bool) -> Iterator[str]:
    """The front moves on, counted; what is left is as it was; what is new is sound."""
    removed = after.sequence - before.sequence
    if after.segments is before.segments and not removed:
        if after.discontinuity_sequence != before.discontinuity_sequence:
            yield f"discontinuity sequence changes to {after.discontinuity_sequence}, but nothing is removed"
        return
    if removed < 0:
        yield f"media sequence falls from {before.sequence} to {after.sequence}"
        return
    if after.next_sequence < before.next_sequence:
        yield f"ends with segment {after.next_sequence - 1}, but {before.next_sequence - 1} was listed before"
        return
    yield from _removal(after, before, removed, gapless=gapless)
    for index, (was, now) in enumerate(zip(before.segments[removed:], after.segments, strict=False)):
        if was is not now:
            yield from _edit(was, now, index, after)
    yield from _new_segments(after, max(before.next_sequence - after.sequence, 0), before.open)


def _removal(after: MediaPlaylist, before: MediaPlaylist, removed: int, *, gapless: bool) -> Iterator[str]:
    gone = sum(segment.discontinuity for segment in before.segments[:removed])
    counted = after.discontinuity_sequence - before.discontinuity_sequence
    all_known = removed <= len(before.segments)
    if gapless and not all_known:
        yield f"media sequence jumps from {before.sequence} to {after.sequence}, behind all that was listed"
    if counted < gone or (all_known and counted != gone):
        yield f"discontinuity sequence moves by {counted}, but {gone} discontinuities are removed"
    if removed and after.duration_us < KEPT_TARGETS * after.target_s * 1_000_000 - TIME_TOLERANCE_US:
        yield f"{removed} segments are removed, and {after.duration_us} us remain"


def _edit(was: Segment, now: Segment, index: int, after: MediaPlaylist) -> Iterator[str]:
    """All that may happen to a complete segment is that its parts go, when they are old."""
    if _bare(was) != _bare(now):
        yield f"segment {was.sequence} changes from {was} to {now}"
    elif now.parts == was.parts:
        return
    elif now.parts:
        yield f"segment {was.sequence}: its parts change from {was.parts} to {now.parts}"
    else:
        yield from _age(now, index, after)


def _age(segment: Segment, index: int, after: MediaPlaylist) -> Iterator[str]:
    """A segment whose parts are gone is old."""
    following_us = sum(segment.duration_us for segment in after.segments[index + 1 :])
    if following_us < KEPT_TARGETS * after.target_s * 1_000_000 - TIME_TOLERANCE_US:
        yield f"segment {segment.sequence}: its parts go when {following_us} us follow"


def _bare(segment: Segment) -> tuple[object, ...]:
    """All that is final of a segment."""
    return (
        segment.sequence,
        segment.uri,
        segment.duration_us,
        segment.discontinuity,
        segment.date_us,
        segment.init,
        segment.gap,
    )


def _new_segments(playlist: MediaPlaylist, known: int, was_open: Segment | None) -> Iterator[str]:
    """
    Complete segments that were not listed as such before.

    :param known: the number of those that were.
    :param was_open: the one that was listed as open.
    """
    for index in range(known, len(playlist.segments)):
        segment = playlist.segments[index]
        if segment.sequence != playlist.sequence + index:
            yield f"segment {segment.sequence} stands in the place of {playlist.sequence + index}"
        yield from _head(segment, playlist.segments[index - 1] if index else None)
        yield from _whole(segment, playlist)
        if was_open is not None and was_open.sequence == segment.sequence:
            yield from _growth(was_open, segment)
            if was_open.parts and not segment.parts:
                yield from _age(segment, index, playlist)
            yield from _parts(segment, playlist, len(was_open.parts))
        else:
            yield from _parts(segment, playlist, 0)


def _head(segment: Segment, before: Segment | None) -> Iterator[str]:
    """How a segment begins, open or complete."""
    name = f"segment {segment.sequence}"
    if segment.init is None or not segment.init.uri:
        yield f"{name}: no init segment"
    if segment.date_us is None:
        yield f"{name}: no date"
    if before is None or segment.discontinuity:
        return
    if segment.init != before.init and not before.gap:
        yield f"{name}: another init segment without a discontinuity"
    if segment.date_us is not None and before.date_us is not None:
        off_us = segment.date_us - before.date_us - before.duration_us
        if abs(off_us) > DATE_TOLERANCE_US or (segment.date_us <= before.date_us and before.duration_us):
            yield f"{name}: its date is {off_us} us off from what the segment before says"


def _whole(segment: Segment, playlist: MediaPlaylist) -> Iterator[str]:
    """What is known of a segment when it is complete."""
    name = f"segment {segment.sequence}"
    if segment.uri != segment_name(segment.sequence):
        yield f"{name} is called {segment.uri}"
    if segment.duration_us < 0 or (segment.duration_us + 500_000) // 1_000_000 > playlist.target_s:
        yield f"{name} lasts {segment.duration_us} us; the target is {playlist.target_s} s"
    parts = segment.parts
    if not parts:
        return
    if segment.gap != all(part.gap for part in parts) and not (segment.gap and any(part.gap for part in parts)):
        yield f"{name}: a gap of which no part is missing, or the other way round"
    if abs(segment.parts_us - segment.duration_us) > SUM_TOLERANCE_US:
        yield f"{name} lasts {segment.duration_us} us, its parts {segment.parts_us} us"


# ── parts, and the live edge ─────────────────────────────────────────────────────────────────────────────────────────


def _open(after: MediaPlaylist, before: MediaPlaylist | None) -> Iterator[str]:
    """The open segment is the next one, sound as far as it is there, and what it was before and more."""
    now = after.open
    was = before.open if before else None
    if now is None:
        if was is not None and was.sequence >= after.next_sequence:
            yield f"segment {was.sequence} was open and is not listed"
        return
    if was is not None and was.sequence == now.sequence:
        yield from _growth(was, now)
        yield from _parts(now, after, len(was.parts))
        return
    if now.sequence != after.next_sequence:
        yield f"segment {now.sequence} is open, but {after.next_sequence} is the next"
    yield from _head(now, after.segments[-1] if after.segments else None)
    yield from _parts(now, after, 0)


def _growth(was: Segment, now: Segment) -> Iterator[str]:
    """A segment that was open before begins as it did then."""
    if (was.discontinuity, was.date_us, was.init) != (now.discontinuity, now.date_us, now.init):
        yield f"segment {was.sequence} changes while it is open, from {was} to {now}"
    if now.parts[: len(was.parts)] != was.parts and (now.parts or not now.uri):
        yield f"segment {was.sequence}: its parts change while it is open, from {was.parts} to {now.parts}"


def _parts(segment: Segment, playlist: MediaPlaylist, known: int) -> Iterator[str]:
    """
    The parts that are new are in order, as long as they have to be, and of the segment.

    :param known: the number of those that were listed before.
    """
    parts, target_us = segment.parts, playlist.part_target_us
    for index in range(known, len(parts)):
        part = parts[index]
        if part.uri != part_name(segment.sequence, index + segment.discontinuity):
            yield f"segment {segment.sequence}, part {index} is called {part.uri}"
        if not 0 <= part.duration_us <= target_us:
            yield f"{part.uri} lasts {part.duration_us} us; the part target is {target_us} us"
    for part, following in pairwise(parts[max(known - 1, 0) :]):
        if _is_too_short(part, following, target_us):
            yield f"{part.uri} lasts {part.duration_us} us; that is too short for a part target of {target_us} us"


def _is_too_short(part: Part, following: Part, target_us: int) -> bool:
    """Whether a part is shorter than one that another follows may be (4.4.4.9)."""
    if part.duration_us * 100 >= target_us * SHORTEST_PART_PERCENT:
        return False
    return not (part.independent or part.gap or following.gap)


def _hint(after: MediaPlaylist, before: MediaPlaylist | None) -> Iterator[str]:
    """Where parts are listed one more is hinted at, the very next; and what was hinted at has come, if anything has."""
    if not after.part_target_us or after.ended:
        if after.hints:
            yield f"{after.hints} where no part comes"
    elif len(after.hints) != 1 or after.hints[0].uri not in _next_parts(after):
        yield f"{after.hints} where {_next_parts(after)[0]} comes next"
    if before is None or not before.hints:
        return
    sequence, index = before.edge
    segment = after.open if after.open and after.open.sequence == sequence else _find(after, sequence)
    if segment is None or index >= len(segment.parts):
        return
    part = segment.parts[index]
    if part.uri != before.hints[0].uri and not part.gap and not (segment.discontinuity and index == 0):
        yield f"{part.uri} came, but {before.hints[0].uri} was hinted at"


def _next_parts(playlist: MediaPlaylist) -> tuple[str, ...]:
    """The names that the next part can have: of the open segment, or of the one after it, joining on or not."""
    opened = playlist.open
    following = playlist.next_sequence + (opened is not None)
    first = part_name(following, 0), part_name(following, 1)
    if opened is None:
        return first
    return part_name(opened.sequence, len(opened.parts) + opened.discontinuity), *first


def _find(playlist: MediaPlaylist, sequence: int) -> Segment | None:
    index = sequence - playlist.sequence
    return playlist.segments[index] if 0 <= index < len(playlist.segments) else None


# ── delta updates ────────────────────────────────────────────────────────────────────────────────────────────────────


def _delta(after: Version, before: Version | None) -> Iterator[str]:
    """A player that has the version before can put in again what is skipped (6.2.5.1), and that is old enough."""
    playlist, skipped = after.playlist, after.skipped
    if before is not None and before.playlist.segments is playlist.segments and before.skipped == skipped:
        return
    if not 0 < skipped < len(playlist.segments):
        yield f"{skipped} of {len(playlist.segments)} segments are skipped"
    elif before is not None and playlist.sequence + skipped > before.playlist.next_sequence:
        yield f"segments up to {playlist.sequence + skipped - 1} are skipped, and not all were listed before"
    boundary_us = SKIP_TARGETS * playlist.target_s * 1_000_000
    kept_us = sum(segment.duration_us for segment in playlist.segments[skipped:])
    if kept_us < boundary_us - TIME_TOLERANCE_US:
        yield f"{skipped} segments are skipped, and only {kept_us} us follow"
