"""
A version of our own playlist as pieces of text, so that the next version need be read only where it is new.

:meth:`KnownVersion.advance` says yes if the next version certainly keeps every rule, and else only that it does not
know: it compares what was judged before as octets, and lets the rules themselves judge a playlist of the last known
segment and the new lines. Where those are one more part there is a shorter way yet (``next_part.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import islice

from rapidrtmp.hls.next_part import NextPart
from rapidrtmp.interfaces import Playlist
from rapidrtmp.m3u8.model import Hint, MediaPlaylist, Segment
from rapidrtmp.m3u8.read import MediaReader
from rapidrtmp.m3u8.rules import facts_violations
from rapidrtmp.m3u8.transitions import BOUNDARY_TOLERANCE_US, version_violations

__all__ = ["KnownVersion"]

_NUMBERS = re.compile(rb"(#EXT-X-(?:MEDIA|DISCONTINUITY)-SEQUENCE:)[0-9]+")
_SKIP = re.compile(rb"#EXT-X-SKIP:SKIPPED-SEGMENTS=([0-9]{1,9})\n")
_PART = b"#EXT-X-PART:"
#: What stands behind the last part or segment, and changes with every version.
_EDGE = (b"#EXT-X-PRELOAD-HINT:", b"#EXT-X-RENDITION-REPORT:", b"#EXT-X-ENDLIST")


@dataclass(slots=True)
class _Piece:
    """
    The text of a complete segment.

    :ivar bare: without its parts; ``full`` with them.
    :ivar end_us: where it ends, counted from the first segment ever known.
    """

    segment: Segment
    bare: bytes
    full: bytes
    end_us: int

    @property
    def map_line(self) -> bytes:
        """The line that names its init segment at the front of a playlist."""
        init = self.segment.init
        return f'#EXT-X-MAP:URI="{init.uri}"\n'.encode() if init else b""

    @property
    def names_init(self) -> bool:
        """Whether its own text does."""
        return b"#EXT-X-MAP:" in self.bare


@dataclass(slots=True)
class KnownVersion:
    """
    The last good version in pieces: ``head``, the pieces of complete segments, the open segment, and the edge.

    :ivar stable: all of it but the edge.
    :ivar facts: what the head says; no segments.
    :ivar pieces: all complete segments; those from index ``with_parts`` on may have parts.
    :ivar plain: the text of those before, in a row.
    :ivar open_bare: the text of the open segment without its parts; ``open_full`` with them.
    :ivar uris: of the complete segments.
    :ivar next_part: the same version again, if it ends in an open segment: what grows while only parts are added.
    """

    head: bytes
    template: re.Pattern[bytes]
    stable: bytes
    facts: MediaPlaylist
    pieces: list[_Piece]
    with_parts: int
    plain: bytes
    open: Segment | None
    open_bare: bytes
    open_full: bytes
    hints: tuple[Hint, ...]
    uris: set[str] = field(default_factory=set)
    next_part: NextPart | None = None

    @classmethod
    def of(cls, body: bytes, parsed: MediaPlaylist) -> KnownVersion | None:
        """Take a version apart that was read as a whole; ``None`` if it is written in a way that can not be."""
        stable = body[: _edge_of(body, 0)]
        lines = stable.splitlines(keepends=True)
        listed = (*parsed.segments, parsed.open) if parsed.open else parsed.segments
        if any(map(_unusual, listed)):
            return None
        if not listed or parsed.problems or parsed.ended or b"\r" in body or body.startswith(b"\xef"):
            return None
        pieces, end_us = [], 0
        for segment in parsed.segments:
            end_us += segment.duration_us
            bare, full = _texts(lines, segment)
            pieces.append(_Piece(segment, bare, full, end_us))
        with_parts = next((at for at, piece in enumerate(pieces) if piece.segment.parts), len(pieces))
        head = b"".join(lines[: listed[0].first_line - 1])
        opened = b"".join(lines[parsed.open.first_line - 1 :]) if parsed.open else b""
        if head + b"".join(piece.full for piece in pieces) + opened != stable:
            return None
        return cls(
            head=head,
            template=_template(head),
            stable=stable,
            facts=replace(parsed, segments=(), open=None, hints=(), reports=()),
            pieces=pieces,
            with_parts=with_parts,
            plain=b"".join(piece.bare for piece in pieces[:with_parts]),
            open=parsed.open,
            open_bare=_without_parts(opened),
            open_full=opened,
            hints=parsed.hints,
            uris={piece.segment.uri for piece in pieces},
        )

    # ── the next version ─────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, playlist: Playlist) -> bool:
        """Whether the next version certainly keeps every rule; then it is what is known from now on."""
        if self.next_part is not None:
            if self.next_part.advance(playlist):
                return True
            self._adopt_parts(self.next_part)
        body = playlist.body
        slide = None
        at = len(self.stable)
        if not body.startswith(self.stable):
            slide = self._match_slide(body)
            if slide is None:
                return False
            at = slide.end
        before = self.edge
        added = _Added.read(self, before, body, at)
        if added is None:
            return False
        after = replace(added.says, segments=(*before.segments, *added.says.segments))
        if facts_violations(playlist, after) or not self._keeps_rules(before, after):
            return False
        total_us = self._end_us + sum(segment.duration_us for segment in added.says.segments)
        opened_us = added.says.open.parts_us if added.says.open else 0
        if slide is not None and not slide.is_timely(self, total_us, opened_us):
            return False
        facts = slide.facts if slide else self.facts
        removed = slide.removed if slide else 0
        head = slide.head if slide else self.head
        if playlist.delta is not None and not self._fits_delta(playlist, facts, head, removed, total_us + opened_us):
            return False
        self._adopt(playlist, added, slide)
        return True

    def _adopt_parts(self, grown: NextPart) -> None:
        """Take over the parts that were added one by one."""
        self.next_part = None
        if grown.text:
            self.stable, self.open, self.hints = grown.stable, grown.opened, grown.hints
            self.open_full += grown.text

    @property
    def _end_us(self) -> int:
        return self.pieces[-1].end_us if self.pieces else 0

    def _match_slide(self, body: bytes) -> _Slide | None:
        """How the known segments are listed again in a version whose front has moved."""
        match = self.template.match(body)
        if match is None or match.lastindex != 2:
            return None
        sequence, discontinuity_sequence = int(match[1]), int(match[2])
        removed = sequence - self.facts.sequence
        if not 0 <= removed < len(self.pieces):
            return None
        gone = sum(piece.segment.discontinuity for piece in islice(self.pieces, removed))
        if discontinuity_sequence != self.facts.discontinuity_sequence + gone:
            return None
        at = match.end()
        first = self.pieces[removed]
        if not first.names_init:
            if not body.startswith(first.map_line, at):
                return None
            at += len(first.map_line)
        kept_plain = self.plain[sum(len(piece.bare) for piece in islice(self.pieces, min(removed, self.with_parts))) :]
        if not body.startswith(kept_plain, at):
            return None
        at += len(kept_plain)
        bare_up_to = max(self.with_parts, removed)
        for index in range(bare_up_to, len(self.pieces)):
            piece = self.pieces[index]
            if body.startswith(piece.full, at):
                at += len(piece.full)
                bare_up_to += index == bare_up_to and piece.bare == piece.full
            elif index == bare_up_to and body.startswith(piece.bare, at):
                at += len(piece.bare)
                bare_up_to += 1
            else:
                return None
        if not body.startswith(self.open_full, at):
            return None
        facts = replace(self.facts, sequence=sequence, discontinuity_sequence=discontinuity_sequence)
        return _Slide(removed, match[0], facts, bare_up_to, at + len(self.open_full))

    @property
    def edge(self) -> MediaPlaylist:
        """The last known segment, what is open behind it and what is hinted at, as a playlist."""
        last = (self.pieces[-1].segment,) if self.pieces else ()
        sequence = last[0].sequence if last else self.facts.sequence
        return replace(self.facts, sequence=sequence, segments=last, open=self.open, hints=self.hints)

    def _keeps_rules(self, before: MediaPlaylist, after: MediaPlaylist) -> bool:
        """The rules, on the last known segment and what is new behind it."""
        if next(version_violations(after, before, gapless=True), None) is not None:
            return False
        new = after.segments[len(before.segments) :]
        return not any(_unusual(segment) or segment.uri in self.uris for segment in new)

    def _fits_delta(self, playlist: Playlist, facts: MediaPlaylist, head: bytes, removed: int, end_us: int) -> bool:
        """The delta update is the head, the number skipped, and the full text from there on."""
        delta, body = playlist.delta or b"", playlist.body
        skip = _SKIP.match(delta, len(head)) if delta.startswith(head) else None
        boundary_us = facts.control_us("CAN-SKIP-UNTIL")
        if skip is None or boundary_us is None or facts.version < 9:
            return False
        first_kept = removed + int(skip[1])
        if not removed < first_kept < len(self.pieces):
            return False
        piece = self.pieces[first_kept]
        at = skip.end()
        if not piece.names_init and piece.map_line and delta.startswith(piece.map_line, at):
            at += len(piece.map_line)
        rest = delta[at:]
        if not rest.startswith((piece.full, piece.bare)) or not body.endswith(rest):
            return False
        return end_us - self.pieces[first_kept - 1].end_us >= boundary_us - BOUNDARY_TOLERANCE_US

    def _adopt(self, playlist: Playlist, added: _Added, slide: _Slide | None) -> None:
        if slide is not None:
            self._adopt_slide(slide)
        end_us = self._end_us
        for segment, (bare, full) in zip(added.says.segments, added.texts, strict=True):
            end_us += segment.duration_us
            self.pieces.append(_Piece(segment, bare, full, end_us))
            self.uris.add(segment.uri)
        self.stable = playlist.body[: added.end]
        self.open, self.hints = added.says.open, added.says.hints
        self.open_bare, self.open_full = added.open_bare, added.open_full
        if self.open is not None:
            self.next_part = NextPart(playlist, self.stable, self.open, self.hints, self.facts.part_target_us)

    def _adopt_slide(self, slide: _Slide) -> None:
        self.head, self.facts = slide.head, slide.facts
        gone = self.pieces[: slide.removed]
        self.uris.difference_update(piece.segment.uri for piece in gone)
        kept_from = sum(len(piece.bare) for piece in gone[: self.with_parts])
        grown = self.pieces[max(self.with_parts, slide.removed) : slide.bare_up_to]
        self.plain = self.plain[kept_from:] + b"".join(piece.bare for piece in grown)
        del self.pieces[: slide.removed]
        for piece in grown:
            piece.full = piece.bare
            piece.segment = replace(piece.segment, parts=())
        self.with_parts = slide.bare_up_to - slide.removed


@dataclass(slots=True)
class _Slide:
    """
    Where the known part of a version whose front has moved was found.

    :ivar bare_up_to: index of the known segments up to which they are listed without parts.
    :ivar end: where the new lines begin.
    """

    removed: int
    head: bytes
    facts: MediaPlaylist
    bare_up_to: int
    end: int

    def is_timely(self, known: KnownVersion, total_us: int, opened_us: int) -> bool:
        """Whether neither segments nor parts went too early."""
        limit_us = known.facts.target_s * 3_000_000
        if self.removed and total_us + opened_us - known.pieces[self.removed - 1].end_us < limit_us:
            return False
        for index in range(max(known.with_parts, self.removed), self.bare_up_to):
            piece = known.pieces[index]
            if piece.bare != piece.full and total_us + opened_us - piece.end_us < limit_us - BOUNDARY_TOLERANCE_US:
                return False
        return True


@dataclass(slots=True)
class _Added:
    """
    What stands behind the known part of a version.

    :ivar says: it, as a playlist.
    :ivar texts: of each new segment, without and with its parts.
    :ivar end: where the edge begins.
    """

    says: MediaPlaylist
    texts: list[tuple[bytes, bytes]]
    open_bare: bytes
    open_full: bytes
    end: int

    @classmethod
    def read(cls, known: KnownVersion, before: MediaPlaylist, body: bytes, at: int) -> _Added | None:
        """Read the lines of ``body`` from ``at`` on, behind ``before``; ``None`` if anything is wrong with them."""
        reader = MediaReader(before)
        lines = body[at:].splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                reader.read(number, line.decode().removesuffix("\n"))
            except UnicodeDecodeError:
                return None
        says = reader.finish()
        if says.problems or reader.changed_head or b"\r" in body[at:]:
            return None
        end = _edge_of(body, at)
        texts = [_texts(lines, segment) for segment in says.segments]
        if known.open is not None and texts:
            texts[0] = known.open_bare + texts[0][0], known.open_full + texts[0][1]
        if says.open is None:
            return cls(says, texts, b"", b"", end)
        behind = says.segments[-1].last_line if texts else 0
        opened = b"".join(lines[behind:])[: end - at - sum(map(len, lines[:behind]))]
        bare = _without_parts(opened)
        if known.open is not None and not texts:
            bare, opened = known.open_bare + bare, known.open_full + opened
        return cls(says, texts, bare, opened, end)


def _unusual(segment: Segment) -> bool:
    """Whether it is one of those that are always looked at as a whole."""
    return segment.byte_range is not None or (segment.init is not None and segment.init.byte_range is not None)


def _edge_of(body: bytes, at: int) -> int:
    """Where the edge begins, at ``at`` or later; the end of ``body`` if there is none."""
    found = [body.find(tag, at) for tag in _EDGE]
    return min((place for place in found if place >= 0), default=len(body))


def _texts(lines: list[bytes], segment: Segment) -> tuple[bytes, bytes]:
    """The text of a segment without its parts, and with them."""
    own = lines[segment.first_line - 1 : segment.last_line]
    return b"".join([line for line in own if not line.startswith(_PART)]), b"".join(own)


def _without_parts(text: bytes) -> bytes:
    return b"".join([line for line in text.splitlines(keepends=True) if not line.startswith(_PART)])


def _template(head: bytes) -> re.Pattern[bytes]:
    """The head with any sequence numbers."""
    parts = _NUMBERS.split(head)
    pattern = re.escape(parts[0])
    for tag, text in zip(parts[1::2], parts[2::2], strict=True):
        pattern += re.escape(tag) + rb"([0-9]{1,18})" + re.escape(text)
    return re.compile(pattern)
