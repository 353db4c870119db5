"""From a URL to a report: media playlist or multivariant, live or ended."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.check.answers import playlist_answer_violations
from rapidrtmp.check.fetch import Answer, Fetch, FetchError
from rapidrtmp.check.rendition import RenditionCheck
from rapidrtmp.check.report import Report
from rapidrtmp.m3u8.model import MultivariantPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import is_multivariant, parse_multivariant_playlist
from rapidrtmp.m3u8.rules import Rule, Severity, Violation, multivariant_violations

__all__ = ["check_stream"]

#: More media playlists than this are not followed at a time.
MAX_PLAYLISTS = 8
#: What a segment's bitrate may be in relation to BANDWIDTH, in percent.
PEAK_PERCENT = 125


async def check_stream(
    url: str, seconds: float, fetch: Fetch, clock: IReactorTime, utc_us: Callable[[], int]
) -> Report:
    """
    Watch a stream for a while.

    :param url: of a media playlist or a multivariant playlist.
    :param seconds: for how long, if it does not end before.
    :param utc_us: the time of day in microseconds since 1970.
    :raises FetchError: there is no playlist at ``url``.
    """
    report = Report(url)
    answer = await _open(url, fetch)
    until_s = clock.seconds() + seconds
    if not is_multivariant(answer.body):
        await _follow("playlist", answer, report, fetch, clock, utc_us, until_s)
        return report
    multivariant = parse_multivariant_playlist(answer.body)
    where = "multivariant playlist"
    report.add(where, multivariant_violations(multivariant))
    report.add(where, playlist_answer_violations(answer, target_s=0, ended=False, blocking=False))
    await gatherResults(
        [
            Deferred.fromCoroutine(_follow_uri(uri, answer.url, report, fetch, clock, utc_us, until_s))
            for uri in _media_uris(multivariant, report)
        ]
    )
    report.add(where, _bandwidth_violations(multivariant, report))
    report.add(where, _i_frame_violations(multivariant, report))
    return report


def _media_uris(multivariant: MultivariantPlaylist, report: Report) -> list[str]:
    """The media playlists, each once, in the order in which they are listed."""
    listed = [variant.uri for variant in multivariant.variants]
    listed += [one.uri for one in multivariant.renditions if one.uri]
    listed += [one.uri for one in multivariant.i_frames]
    uris = list(dict.fromkeys(listed))
    if len(uris) > MAX_PLAYLISTS:
        report.note(f"{len(uris) - MAX_PLAYLISTS} more media playlists are not followed")
    return uris[:MAX_PLAYLISTS]


async def _open(url: str, fetch: Fetch) -> Answer:
    answer = await fetch(url)
    if answer.status != 200:
        raise FetchError(f"{url}: {answer.status}")
    if not answer.body.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U"):
        raise FetchError(f"{url}: not a playlist: it does not begin with #EXTM3U")
    return answer


async def _follow_uri(
    uri: str,
    base: str,
    report: Report,
    fetch: Fetch,
    clock: IReactorTime,
    utc_us: Callable[[], int],
    until_s: float,
) -> None:
    try:
        answer = await _open(urljoin(base, uri), fetch)
    except FetchError as error:
        report.add(uri, [Violation(Rule.HTTP, str(error))])
        return
    await _follow(uri, answer, report, fetch, clock, utc_us, until_s)


async def _follow(
    name: str,
    answer: Answer,
    report: Report,
    fetch: Fetch,
    clock: IReactorTime,
    utc_us: Callable[[], int],
    until_s: float,
) -> None:
    if not parse_media_playlist(answer.body).target_s:
        raise FetchError(f"{answer.url}: not a playlist that can be followed: no EXT-X-TARGETDURATION")
    await RenditionCheck(name, answer.url, report, fetch, clock, utc_us).run(answer, until_s)


def _i_frame_violations(multivariant: MultivariantPlaylist, report: Report) -> list[Violation]:
    """What is listed as an I-frame playlist is one, and nothing else is (4.4.6.3)."""
    found = []
    for variant in (*multivariant.variants, *multivariant.i_frames):
        measured, is_expected = report.measured.get(variant.uri), variant in multivariant.i_frames
        if measured is not None and measured.is_of_i_frames is not is_expected:
            what = "lacks" if is_expected else "has"
            found.append(Violation(Rule.SYNTAX, f"{urlsplit(variant.uri).path}: {what} EXT-X-I-FRAMES-ONLY"))
    return found


def _bandwidth_violations(multivariant: MultivariantPlaylist, report: Report) -> list[Violation]:
    """Segments must not be much larger than BANDWIDTH says, or players run dry. Muxed variants only."""
    found = []
    for variant in (*multivariant.variants, *multivariant.i_frames):
        measured = report.measured.get(variant.uri)
        if measured is None or measured.peak <= variant.bandwidth:
            continue
        severity = Severity.ERROR if measured.peak * 100 > variant.bandwidth * PEAK_PERCENT else Severity.WARNING
        detail = (
            f"{urlsplit(variant.uri).path}: a segment has {measured.peak} bit/s, BANDWIDTH says {variant.bandwidth}"
        )
        found.append(Violation(Rule.BANDWIDTH, detail, severity))
    return found
