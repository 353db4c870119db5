"""What HTTP answers must look like for players and caches, beyond their bytes (RFC 8216 bis, 4, 6.2, appendix B)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rapidrtmp.check.fetch import Answer
from rapidrtmp.m3u8.rules import Rule, Severity, Violation

__all__ = ["head_violations", "media_answer_violations", "playlist_answer_violations", "range_violations"]

PLAYLIST_TYPES = ("application/vnd.apple.mpegurl", "audio/mpegurl")
_MP4_TYPES = ("video/mp4", "audio/mp4", "video/iso.segment", "audio/iso.segment")
MEDIA_TYPES = (*_MP4_TYPES, "video/mp2t", "audio/aac", "text/vtt")
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=([0-9]+)")


def _warning(detail: str) -> Violation:
    return Violation(Rule.HTTP, detail, Severity.WARNING)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def playlist_answer_violations(answer: Answer, *, target_s: int, ended: bool, blocking: bool) -> Iterator[Violation]:
    """
    Of a playlist.

    :param target_s: its target duration; 0 for a multivariant playlist.
    :param ended: whether it changes no more.
    :param blocking: whether a certain version was asked for, so that a cache may keep it.
    """
    kind = _content_type(answer)
    if kind not in PLAYLIST_TYPES:
        yield Violation(Rule.HTTP, f"playlist: Content-Type is {kind or 'missing'}, not {PLAYLIST_TYPES[0]}")
    yield from _cors(answer, "playlist")
    if answer.headers.get("content-encoding") != "gzip":
        yield _warning("playlist: not compressed with gzip, which the client accepts")
    elif "accept-encoding" not in answer.headers.get("vary", "").lower():
        yield Violation(Rule.HTTP, "playlist: compressed, but Vary does not name Accept-Encoding: caches mix them up")
    caching = answer.headers.get("cache-control", "").lower()
    age = _MAX_AGE.search(caching)
    if not caching:
        yield _warning("playlist: no Cache-Control: caches guess")
    elif target_s and not ended and not blocking and age and int(age[1]) > target_s:
        yield Violation(Rule.HTTP, f"playlist: max-age={age[1]}, longer than the target duration: viewers get old ones")
    if answer.redirected:
        yield _warning("playlist: redirected")


def media_answer_violations(answer: Answer, what: str) -> Iterator[Violation]:
    """Of an init segment, segment or part; ``what`` names it."""
    kind = _content_type(answer)
    if kind not in MEDIA_TYPES:
        yield Violation(Rule.HTTP, f"{what}: Content-Type is {kind or 'missing'}, which is no media type of HLS")
    yield from _cors(answer, what)
    if answer.headers.get("content-encoding"):
        yield _warning(f"{what}: media is compressed once more")
    if "content-length" not in answer.headers:
        yield _warning(f"{what}: no Content-Length: players cannot tell the bandwidth")
    caching = answer.headers.get("cache-control", "").lower()
    if not caching:
        yield _warning(f"{what}: no Cache-Control: caches guess")
    elif "no-store" in caching or "no-cache" in caching:
        yield _warning(f"{what}: Cache-Control is {caching}, though it never changes")
    if answer.redirected:
        yield _warning(f"{what}: redirected")


def _cors(answer: Answer, what: str) -> Iterator[Violation]:
    if "access-control-allow-origin" not in answer.headers:
        yield _warning(f"{what}: no Access-Control-Allow-Origin: pages of other sites cannot play it")


def head_violations(head: Answer, got: Answer, what: str) -> Iterator[Violation]:
    """Of the answer to ``HEAD``, beside the one to ``GET``."""
    if head.status != got.status:
        yield _warning(f"{what}: HEAD is answered {head.status}, GET {got.status}")
    elif head.body:
        yield Violation(Rule.HTTP, f"{what}: HEAD is answered with a body")
    elif _content_type(head) != _content_type(got):
        yield _warning(f"{what}: HEAD and GET differ in Content-Type")


def range_violations(answer: Answer, whole: bytes, what: str, first: int, last: int) -> Iterator[Violation]:
    """Of the answer to a request for the bytes ``first`` to ``last``, inclusive, of ``whole``."""
    if answer.status == 200:
        yield _warning(f"{what}: Range is ignored")
    elif answer.status != 206:
        yield Violation(Rule.HTTP, f"{what}: a range of it is answered {answer.status}")
    else:
        stated = answer.headers.get("content-range", "")
        if stated != f"bytes {first}-{last}/{len(whole)}":
            yield Violation(Rule.HTTP, f"{what}: Content-Range is {stated!r} for {first}-{last} of {len(whole)}")
        if answer.body != whole[first : last + 1]:
            yield Violation(Rule.HTTP, f"{what}: a range of it is not the bytes of the whole")
