"""
One media playlist, followed as a player does it, and everything it lists fetched.

Two loops: one reads version after version, with blocking reload and delta updates where they are offered; the other
fetches what is new, in order. A part that is hinted at is asked for at once, so its answer is mostly there when it is
listed.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin, urlsplit, urlunsplit

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rapidrtmp.check.answers import (
    head_violations,
    media_answer_violations,
    playlist_answer_violations,
    range_violations,
)
from rapidrtmp.check.fetch import Answer, Fetch, FetchError
from rapidrtmp.check.media import MediaProbe
from rapidrtmp.check.report import Measurements, Report
from rapidrtmp.m3u8.model import ByteRange, InitSegment, MediaPlaylist, Segment
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Rule, Severity, Violation, seconds
from rapidrtmp.m3u8.transitions import PlaylistChecker

__all__ = ["RenditionCheck"]

#: Without news for so many target durations a server may answer 503, and players give up.
PATIENCE_TARGETS = 3
#: One version in so many is asked for in full where delta updates are offered.
FULL_EVERY = 4
MAX_FAILURES = 3
_NOT_INSPECTED = (".ts", ".aac", ".ac3", ".ec3", ".mp3", ".vtt", ".webvtt")


def with_query(url: str, directives: dict[str, str]) -> str:
    """A URL with delivery directives behind the query it has (6.2.5)."""
    parts = urlsplit(url)
    added = "&".join(f"{name}={value}" for name, value in sorted(directives.items()))
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added)))))


class RenditionCheck:
    """
    Follows one media playlist.

    :param name: what the report calls it.
    :param url: of the playlist.
    :param fetch: makes requests.
    :param clock: time and timers.
    :param utc_us: the time of day in microseconds since 1970.
    """

    def __init__(
        self, name: str, url: str, report: Report, fetch: Fetch, clock: IReactorTime, utc_us: Callable[[], int]
    ) -> None:
        self._name = name
        self._url = url
        self._report = report
        self._fetch = fetch
        self._clock = clock
        self._utc_us = utc_us
        self._checker = PlaylistChecker()
        self._measured = report.measured.setdefault(name, Measurements())
        self._probe = MediaProbe(independent=False)
        self._init: InitSegment | None = None
        self._work: DeferredQueue[Segment | tuple[Segment, int] | None] = DeferredQueue()
        self._next: tuple[int, int] | None = None  # the segment, and the part in it, to be fetched next
        self._pieces: dict[int, list[bytes]] = {}  # of segments whose parts were all fetched so far
        self._hinted: dict[str, Deferred[Answer | None]] = {}
        self._seen_answers: set[str] = set()
        self._probed_http = False
        self._changed_s = 0.0
        self._asked_full = 0
        self._had_news = True

    def _found(self, *violations: Violation) -> None:
        self._report.add(self._name, violations)

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, first: Answer, until_s: float) -> None:
        """
        Follow the playlist until it ends, or until ``until_s`` by the clock.

        :param first: the answer with its first version.
        """
        self._changed_s = self._clock.seconds()
        fetching = Deferred.fromCoroutine(self._fetch_all())
        try:
            await self._read_versions(first, until_s)
        finally:
            self._work.put(None)
        await fetching
        for waiting in self._hinted.values():
            waiting.cancel()

    async def _read_versions(self, first: Answer, until_s: float) -> None:
        answer: Answer | None = first
        directives: dict[str, str] = {}
        failures = 0
        while True:
            if answer is not None:
                failures = 0
                self._take(answer, directives)
            playlist = self._checker.previous
            if playlist is None or playlist.ended or self._clock.seconds() >= until_s:
                return
            directives = self._directives(playlist)
            if "_HLS_msn" not in directives:
                await deferLater(self._clock, playlist.target_s / 2)
            elif not self._had_news:  # as players do, so as not to run hot
                await deferLater(self._clock, (playlist.part_target_us or 1_000_000) / 2_000_000)
            patience_s = PATIENCE_TARGETS * playlist.target_s + 5
            try:
                answer = await self._fetch(with_query(self._url, directives), timeout_s=patience_s)
            except FetchError as error:
                self._found(Violation(Rule.HTTP, str(error)))
                answer = None
            if answer is not None and answer.status != 200:
                asked = f" to {urlsplit(with_query('', directives)).query}" if directives else ""
                self._found(Violation(Rule.HTTP, f"playlist: {answer.status} in answer{asked}"))
                answer = None
            if answer is None:
                failures += 1
                if failures == MAX_FAILURES:
                    return
                await deferLater(self._clock, 1)

    def _directives(self, playlist: MediaPlaylist) -> dict[str, str]:
        directives = {}
        if playlist.blocks:
            sequence, part = playlist.edge
            directives["_HLS_msn"] = str(sequence)
            if playlist.part_target_us:
                directives["_HLS_part"] = str(part)
        self._asked_full += 1
        if "CAN-SKIP-UNTIL" in playlist.control and self._asked_full % FULL_EVERY:
            directives["_HLS_skip"] = "YES"
        return directives

    def _take(self, answer: Answer, directives: dict[str, str]) -> None:
        """Judge a version, and see to what is new in it."""
        parsed = parse_media_playlist(answer.body)
        before = self._checker.previous
        self._found(*self._checker.check(parsed))
        playlist = self._checker.previous
        if playlist is None:
            return
        self._measured.versions += 1
        self._measured.is_of_i_frames = playlist.i_frames_only
        self._measured.deltas += bool(parsed.skipped)
        if f"playlist {bool(directives)}" not in self._seen_answers:
            self._seen_answers.add(f"playlist {bool(directives)}")
            self._found(
                *playlist_answer_violations(
                    answer, target_s=playlist.target_s, ended=playlist.ended, blocking="_HLS_msn" in directives
                )
            )
        self._had_news = before is None or before.edge < playlist.edge
        if not self._had_news:
            self._note_no_news(playlist, directives)
        else:
            self._measure_time(before, playlist, answer)
            self._changed_s = answer.answered_s
        self._probe.independent = playlist.independent_segments
        self._enqueue(playlist)
        self._ask_for_hint(playlist)

    def _note_no_news(self, playlist: MediaPlaylist, directives: dict[str, str]) -> None:
        if playlist.ended:
            return
        if "_HLS_msn" in directives:
            self._found(Violation(Rule.TIMING, "a blocking reload was answered without what it asked for"))
        silent_s = self._clock.seconds() - self._changed_s
        if silent_s > PATIENCE_TARGETS * playlist.target_s:
            self._found(Violation(Rule.TIMING, "nothing new for three target durations: players call this stuck"))

    def _measure_time(self, before: MediaPlaylist | None, playlist: MediaPlaylist, answer: Answer) -> None:
        """How late the news is: by its dates, and beside how long it lasts."""
        if playlist.ended:
            return
        end_us = _end_date_us(playlist)
        if end_us is not None:
            self._measured.latencies_us.append(self._utc_us() - end_us)
        if before is None:
            return
        waited_us = int((answer.answered_s - self._changed_s) * 1_000_000)
        new_us = max(_elapsed_us(before, playlist), 0)
        self._measured.waits_us.append(waited_us - new_us)
        if playlist.part_target_us and playlist.blocks:
            limit_us, limit = new_us + playlist.part_target_us, "a part target"
        else:
            limit_us, limit = playlist.target_s * 1_500_000, "1.5 target durations"
        if waited_us > limit_us:
            self._found(
                Violation(
                    Rule.TIMING,
                    f"{seconds(waited_us)} passed up to segment {playlist.edge[0]}, part {playlist.edge[1]}, which "
                    f"brought {seconds(new_us)}: more than {limit} late",
                    Severity.WARNING,
                )
            )

    # ── what is to be fetched ────────────────────────────────────────────────────────────────────────────────────────

    def _enqueue(self, playlist: MediaPlaylist) -> None:
        listed = (*playlist.segments, playlist.open) if playlist.open else playlist.segments
        if self._next is None:
            self._next = _starting_point(playlist), 0
        for segment in listed:
            sequence, part = self._next
            if segment.sequence < sequence:
                continue
            known = part if segment.sequence == sequence else 0
            for index in range(known, len(segment.parts)):
                self._work.put((segment, index))
            if segment.uri:
                self._work.put(segment)
                self._next = segment.sequence + 1, 0
            else:
                self._next = segment.sequence, len(segment.parts)

    def _ask_for_hint(self, playlist: MediaPlaylist) -> None:
        hint = playlist.part_hint
        if hint is None or hint.start or hint.length or hint.uri in self._hinted:
            return
        patience_s = PATIENCE_TARGETS * playlist.target_s + 5
        asking = Deferred.fromCoroutine(self._fetch(urljoin(self._url, hint.uri), timeout_s=patience_s))
        self._hinted[hint.uri] = asking.addErrback(lambda _: None)  # its part is fetched again if it is ever listed

    async def _fetch_all(self) -> None:
        while True:
            work = await self._work.get()
            if work is None:
                return
            segment = work if isinstance(work, Segment) else work[0]
            await self._fetch_init(segment)
            if isinstance(work, Segment):
                await self._fetch_segment(work)
            else:
                await self._fetch_part(*work)

    async def _get(self, uri: str, byte_range: ByteRange | None, what: str, kind: str) -> bytes | None:
        """The bytes behind a URI of the playlist; ``None``, and a violation, if they cannot be had."""
        answer: Answer | None = None
        if byte_range is None and uri in self._hinted:
            answer = await self._hinted.pop(uri)
            self._measured.hints_kept += answer is not None and answer.status == 200
        if answer is None or answer.status != 200:
            span = f"{byte_range[1]}-{byte_range[1] + byte_range[0] - 1}" if byte_range else ""
            try:
                answer = await self._fetch(urljoin(self._url, uri), byte_range=span)
            except FetchError as error:
                self._found(Violation(Rule.HTTP, f"{what}: {error}"))
                return None
        if answer.status not in ((200, 206) if byte_range else (200,)):
            self._found(Violation(Rule.HTTP, f"{what}: {answer.status} for {uri}"))
            return None
        if kind not in self._seen_answers:
            self._seen_answers.add(kind)
            self._found(*media_answer_violations(answer, kind))
        self._measured.byte_count += len(answer.body)
        if byte_range is None:
            await self._probe_http(answer, kind)
        if byte_range and answer.status == 200:
            return answer.body[byte_range[1] : byte_range[1] + byte_range[0]]
        return answer.body

    async def _probe_http(self, got: Answer, kind: str) -> None:
        """Try ``HEAD`` and ranges, once, on a segment."""
        if self._probed_http or kind != "segment" or len(got.body) < 2:
            return
        self._probed_http = True
        first, last = len(got.body) // 3, len(got.body) // 2
        try:
            self._found(*head_violations(await self._fetch(got.url, method="HEAD"), got, kind))
            ranged = await self._fetch(got.url, byte_range=f"{first}-{last}")
            self._found(*range_violations(ranged, got.body, kind, first, last))
            beyond = await self._fetch(got.url, byte_range=f"{len(got.body)}-")
            if beyond.status not in (416, 200):
                self._found(Violation(Rule.HTTP, f"segment: {beyond.status}, not 416, for a range behind its end"))
            head = await self._fetch(self._url, method="HEAD")
            if head.status != 200 or head.body:
                self._found(Violation(Rule.HTTP, f"playlist: HEAD is answered {head.status}", Severity.WARNING))
        except FetchError as error:
            self._found(Violation(Rule.HTTP, str(error)))

    # ── media ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fetch_init(self, segment: Segment) -> None:
        if segment.init is None or segment.init == self._init:
            return
        self._init = segment.init
        data = await self._get(segment.init.uri, segment.init.byte_range, "init segment", "init segment")
        if data is not None:
            self._found(*self._probe.read_init(data))

    def _is_inspected(self, segment: Segment, uri: str) -> bool:
        if segment.key:
            self._report.note(f"{self._name}: encrypted segments are not inspected")
        elif segment.init is None or urlsplit(uri).path.endswith(_NOT_INSPECTED):
            self._report.note(f"{self._name}: only fragmented MP4 is inspected, not {_suffix(uri)}")
        else:
            return True
        return False

    async def _fetch_part(self, segment: Segment, index: int) -> None:
        part = segment.parts[index]
        if part.gap:
            return
        name = f"segment {segment.sequence}, part {index}"
        data = await self._get(part.uri, part.byte_range, name, "part")
        if data is None:
            return
        self._measured.parts += 1
        pieces = self._pieces.setdefault(segment.sequence, [])
        if len(pieces) == index:
            pieces.append(data)
        if self._is_inspected(segment, part.uri):
            self._found(*self._probe.check_part(segment, index, data))

    async def _fetch_segment(self, segment: Segment) -> None:
        pieces = self._pieces.pop(segment.sequence, [])
        if segment.gap:
            return
        data = await self._get(segment.uri, segment.byte_range, f"segment {segment.sequence}", "segment")
        if data is None:
            return
        self._measured.segments += 1
        if segment.duration_us >= 500_000:
            self._measured.peak = max(self._measured.peak, len(data) * 8_000_000 // segment.duration_us)
        if pieces and len(pieces) == len(segment.parts) and b"".join(pieces) != data:
            self._found(Violation(Rule.MEDIA, f"segment {segment.sequence}: not the bytes of its parts in a row"))
        if self._is_inspected(segment, segment.uri):
            judge = self._probe.check_picture if self._measured.is_of_i_frames else self._probe.check_segment
            self._found(*judge(segment, data))


def _suffix(uri: str) -> str:
    name = urlsplit(uri).path.rpartition("/")[2]
    return name[name.rfind(".") :] if "." in name else "names without a suffix"


def _starting_point(playlist: MediaPlaylist) -> int:
    """Where a player would begin: three target durations before the end; at the beginning of what has ended."""
    if playlist.ended:
        return playlist.sequence
    left_us = playlist.target_s * 3_000_000
    for segment in reversed(playlist.segments):
        if left_us <= 0:
            return segment.sequence + 1
        left_us -= segment.duration_us
    return playlist.sequence


def _end_date_us(playlist: MediaPlaylist) -> int | None:
    """The date of the end of the last segment or part."""
    after_us = 0
    listed = (*playlist.segments, playlist.open) if playlist.open else playlist.segments
    for segment in reversed(listed):
        after_us += segment.duration_us if segment.uri else segment.parts_us
        if segment.date_us is not None:
            return segment.date_us + after_us
    return None


def _elapsed_us(before: MediaPlaylist, playlist: MediaPlaylist) -> int:
    """How much media the newer version has behind the end of the older one."""
    gone_us = sum(segment.duration_us for segment in before.segments[: playlist.sequence - before.sequence])
    return playlist.duration_us - (before.duration_us - gone_us)
