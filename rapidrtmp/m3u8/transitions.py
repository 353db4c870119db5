"""
Whether a live playlist keeps its word from version to version (RFC 8216 bis, 6.2.1, 6.2.2, 6.2.5.1).

:class:`PlaylistChecker` is fed the versions of one playlist, of any server. What was judged once is not judged
again: a wrong segment is one violation, not one in each version that lists it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rapidrtmp.m3u8.model import MediaPlaylist, MergeError, Part, Segment, merge_delta
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import (
    Rule,
    Severity,
    Violation,
    head_violations,
    hint_violations,
    part_violations,
    repeated_uris,
    seconds,
    segment_violations,
    syntax_violations,
)

__all__ = ["PlaylistChecker", "delta_violations", "transition_violations", "version_violations"]

#: A segment may be skipped if it ends this little after the skip boundary: durations are rounded.
BOUNDARY_TOLERANCE_US = 1_000


class PlaylistChecker:
    """
    Checks successive versions of one media playlist.

    :ivar previous: the last full version, with delta updates merged; ``None`` before the first.
    """

    def __init__(self) -> None:
        self.previous: MediaPlaylist | None = None

    def check(self, version: str | bytes | MediaPlaylist) -> list[Violation]:
        """
        What is wrong with the next version, and with the way there from the one before.

        :param version: a whole playlist or a delta update; a delta update is merged with the version before.
        """
        playlist = version if isinstance(version, MediaPlaylist) else parse_media_playlist(version)
        found: list[Violation] = []
        if playlist.skipped:
            found += syntax_violations(playlist)
            found += _skip_violations(playlist)
            if self.previous is None:
                return [*found, Violation(Rule.DELTA, "a delta update before any full version")]
            try:
                playlist = replace(merge_delta(self.previous, playlist), problems=())
            except MergeError as error:
                return [*found, Violation(Rule.DELTA, str(error))]
        found += version_violations(playlist, self.previous)
        self.previous = playlist
        return found


def version_violations(playlist: MediaPlaylist, previous: MediaPlaylist | None) -> Iterator[Violation]:
    """
    What is wrong with a full version.

    :param previous: the version before; ``None`` judges every segment, otherwise those that are new.
    """
    yield from syntax_violations(playlist)
    yield from head_violations(playlist)
    yield from hint_violations(playlist)
    yield from repeated_uris(playlist)
    if previous is None:
        if playlist.part_target_us and all(segment.date_us is None for segment in _listed(playlist)):
            yield Violation(Rule.DATE, "no EXT-X-PROGRAM-DATE-TIME in a low-latency playlist", Severity.WARNING)
    else:
        yield from transition_violations(previous, playlist)
    yield from _new_segment_violations(playlist, previous)


def _listed(playlist: MediaPlaylist) -> tuple[Segment, ...]:
    return (*playlist.segments, playlist.open) if playlist.open else playlist.segments


def _new_segment_violations(playlist: MediaPlaylist, previous: MediaPlaylist | None) -> Iterator[Violation]:
    """What is wrong with the segments and parts that the version before did not list."""
    first_new = previous.next_sequence if previous else playlist.sequence
    listed = _listed(playlist)
    start = min(max(first_new - playlist.sequence, 0), len(listed))
    was_open = previous.open if previous else None
    for index in range(start, len(listed)):
        segment = listed[index]
        before = listed[index - 1] if index else None
        if was_open is not None and segment.sequence == was_open.sequence:
            yield from _grown_segment_violations(playlist, segment, before, len(was_open.parts))
        else:
            yield from segment_violations(playlist, segment, before)


def _grown_segment_violations(
    playlist: MediaPlaylist, segment: Segment, before: Segment | None, known_parts: int
) -> Iterator[Violation]:
    """Of a segment that was open before: its head was judged then, its duration and its new parts were not."""
    without_parts = replace(segment, parts=(), discontinuity=False, date_us=None)
    same_init = replace(before, init=segment.init) if before else None
    if segment.uri:
        yield from segment_violations(playlist, without_parts, same_init)
    yield from part_violations(playlist, segment, known_parts)


# ── from one version to the next ─────────────────────────────────────────────────────────────────────────────────────


def transition_violations(previous: MediaPlaylist, playlist: MediaPlaylist) -> Iterator[Violation]:
    """What was promised in one version and is not kept in the next."""
    yield from _frozen_violations(previous, playlist)
    if previous.ended and (not playlist.ended or playlist.segments[-1:] != previous.segments[-1:]):
        yield Violation(Rule.FINAL, "the playlist continues after EXT-X-ENDLIST")
    removed = playlist.sequence - previous.sequence
    if removed < 0:
        yield Violation(
            Rule.SEQUENCE, f"EXT-X-MEDIA-SEQUENCE goes back from {previous.sequence} to {playlist.sequence}"
        )
        return
    yield from _removal_violations(previous, playlist, removed)
    if playlist.edge < previous.edge:
        yield Violation(Rule.FINAL, f"ends at {_name(playlist)}, but {_name(previous)} was reached before")
    known = previous.segments[removed:]
    for before, after in zip(known, playlist.segments, strict=False):
        if before is not after and before != after:
            yield from _edit_violations(before, after, playlist)
    yield from _open_violations(previous, playlist)
    yield from _unkept_hint_violations(previous, playlist)


def _name(playlist: MediaPlaylist) -> str:
    return "segment {}, part {}".format(*playlist.edge)


def _frozen_violations(previous: MediaPlaylist, playlist: MediaPlaylist) -> Iterator[Violation]:
    """What players take for constant. A final playlist may let go of what only matters while it grows."""
    rows: list[tuple[str, object, object]] = [
        ("EXT-X-TARGETDURATION", previous.target_s, playlist.target_s),
        ("EXT-X-VERSION", previous.version, playlist.version),
    ]
    if not (playlist.ended and not playlist.part_target_us):
        rows.append(("PART-TARGET", previous.part_target_us, playlist.part_target_us))
    if not (playlist.ended and not playlist.control):
        rows.append(("EXT-X-SERVER-CONTROL", previous.control, playlist.control))
    if not playlist.ended:
        rows.append(("EXT-X-PLAYLIST-TYPE", previous.kind, playlist.kind))
    for name, before, after in rows:
        if before != after:
            yield Violation(Rule.FROZEN, f"{name} changes from {before or 'none'} to {after or 'none'}")


def _removal_violations(previous: MediaPlaylist, playlist: MediaPlaylist, removed: int) -> Iterator[Violation]:
    """Segments leave at the front, counted, and not so many that less than three target durations remain (6.2.2)."""
    gone = previous.segments[:removed]
    discontinuities = sum(segment.discontinuity for segment in gone)
    counted = playlist.discontinuity_sequence - previous.discontinuity_sequence
    if removed > len(previous.segments):
        yield Violation(
            Rule.SEQUENCE,
            f"EXT-X-MEDIA-SEQUENCE jumps from {previous.sequence} to {playlist.sequence}, behind all that was listed",
            Severity.WARNING,  # versions in between may have been missed
        )
    if counted != discontinuities and (removed <= len(previous.segments) or counted < discontinuities):
        yield Violation(
            Rule.SEQUENCE,
            f"EXT-X-DISCONTINUITY-SEQUENCE goes from {previous.discontinuity_sequence} to "
            f"{playlist.discontinuity_sequence}, but {discontinuities} discontinuities were removed",
        )
    if removed and playlist.duration_us < playlist.target_s * 3_000_000:
        yield Violation(
            Rule.WINDOW,
            f"{removed} segments are removed and {seconds(playlist.duration_us)} remain: less than 3 targets",
        )
    if removed and playlist.kind == "EVENT":
        yield Violation(Rule.FINAL, f"{removed} segments are removed from an EVENT playlist")


def _edit_violations(before: Segment, after: Segment, playlist: MediaPlaylist) -> Iterator[Violation]:
    """A complete segment is listed as it was; only its parts may go, when they are old, and a date may move on."""
    name = f"segment {before.sequence}"
    for what in ("uri", "duration_us", "discontinuity", "init", "key", "gap", "byte_range"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            yield Violation(Rule.FINAL, f"{name}: its {what} changes from {old!r} to {new!r}")
    if before.date_us is not None and after.date_us is not None and before.date_us != after.date_us:
        yield Violation(Rule.FINAL, f"{name}: its date changes by {seconds(after.date_us - before.date_us)}")
    if after.parts and after.parts != before.parts[-len(after.parts) :]:
        yield Violation(Rule.FINAL, f"{name}: its parts change")
    elif before.parts != after.parts and not playlist.ended:
        yield from _early_part_removal(after, playlist)


def _early_part_removal(after: Segment, playlist: MediaPlaylist) -> Iterator[Violation]:
    following = playlist.segments[after.sequence - playlist.sequence + 1 :]
    followed_us = sum(segment.duration_us for segment in following) + (playlist.open.parts_us if playlist.open else 0)
    if followed_us < playlist.target_s * 3_000_000 - BOUNDARY_TOLERANCE_US:
        detail = f"segment {after.sequence}: its parts go when {seconds(followed_us)} follow: less than 3 targets"
        yield Violation(Rule.PARTS, detail, Severity.WARNING)


def _open_violations(previous: MediaPlaylist, playlist: MediaPlaylist) -> Iterator[Violation]:
    """What was the open segment is still there, and its parts begin with those it had."""
    before = previous.open
    if before is None:
        return
    name = f"segment {before.sequence}"
    after = next((segment for segment in reversed(_listed(playlist)) if segment.sequence == before.sequence), None)
    if after is None:
        if before.sequence >= playlist.sequence:
            yield Violation(Rule.FINAL, f"{name} was open and is not listed")
        return
    for what in ("discontinuity", "date_us", "init", "key"):
        if getattr(before, what) != getattr(after, what):
            yield Violation(Rule.FINAL, f"{name}: its {what} changes while it is open")
    if after.parts:
        if after.parts[: len(before.parts)] != before.parts:
            yield Violation(Rule.FINAL, f"{name}: its parts change while it is open")
    elif not playlist.ended:
        yield from _early_part_removal(after, playlist)


def _unkept_hint_violations(previous: MediaPlaylist, playlist: MediaPlaylist) -> Iterator[Violation]:
    """The part that comes next has the name that was hinted at; but a discontinuity or a gap changes plans."""
    hint = previous.part_hint
    sequence, index = previous.edge
    segment = next((segment for segment in reversed(_listed(playlist)) if segment.sequence == sequence), None)
    if hint is None or segment is None or index >= len(segment.parts):
        return
    part = segment.parts[index]
    if part.gap or (segment.discontinuity and index == 0):
        return
    if not _is_hinted(part, hint.uri, hint.start):
        yield Violation(Rule.HINT, f"segment {sequence}, part {index} is {part.uri}, but {hint.uri} was hinted at")


def _is_hinted(part: Part, uri: str, start: int) -> bool:
    return part.uri == uri and (part.byte_range is None or part.byte_range[1] == start)


# ── delta updates ────────────────────────────────────────────────────────────────────────────────────────────────────


def delta_violations(
    previous: MediaPlaylist | None, playlist: MediaPlaylist, delta: MediaPlaylist
) -> Iterator[Violation]:
    """
    Whether a delta update, merged with the version before, makes exactly the full version (6.2.5.1).

    :param previous: what a player had; ``None`` merges with the full version itself.
    :param playlist: the full version that the delta update stands for.
    """
    yield from syntax_violations(delta)
    yield from _skip_violations(delta)
    try:
        merged = merge_delta(previous or playlist, delta)
    except MergeError as error:
        yield Violation(Rule.DELTA, str(error))
        return
    bare = tuple(replace(segment, parts=()) for segment in playlist.segments[: delta.skipped])
    wanted = replace(playlist, segments=(*bare, *playlist.segments[delta.skipped :]))
    if merged != wanted:
        yield Violation(
            Rule.DELTA, f"merged with the version before, it is another than the full one: {_where(merged, wanted)}"
        )


def _where(merged: MediaPlaylist, wanted: MediaPlaylist) -> str:
    """The first difference."""
    if len(merged.segments) != len(wanted.segments):
        return f"{len(merged.segments)} segments, not {len(wanted.segments)}"
    for one, other in zip(merged.segments, wanted.segments, strict=True):
        if one != other:
            return f"segment {other.sequence}"
    return "the open segment" if merged.open != wanted.open else "the head, or the hint"


def _skip_violations(delta: MediaPlaylist) -> Iterator[Violation]:
    """Only what lies before the skip boundary is skipped (4.4.3.8), and the tags that players need stay."""
    boundary_us = delta.control_us("CAN-SKIP-UNTIL")
    if not delta.skipped:
        yield Violation(Rule.DELTA, "a delta update without EXT-X-SKIP")
    elif boundary_us is None:
        yield Violation(Rule.DELTA, "EXT-X-SKIP without CAN-SKIP-UNTIL")
    elif delta.duration_us < boundary_us - BOUNDARY_TOLERANCE_US:
        yield Violation(
            Rule.DELTA,
            f"segments are skipped up to {seconds(delta.duration_us)} from the end; the boundary is "
            f"{seconds(boundary_us)}",
        )
    if delta.version < 9:
        yield Violation(Rule.VERSION, f"EXT-X-VERSION {delta.version}, but EXT-X-SKIP needs 9")
