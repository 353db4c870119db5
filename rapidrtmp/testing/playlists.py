"""
For the author of a packager: assertions that hold its playlists to the rules of RFC 8216 bis.

::

    assert_valid_playlists([version.body for version in everything_that_was_published])

They are the rules that the server holds its own playlists to, and ``rapidrtmp check`` those of any server.
"""

from __future__ import annotations

from collections.abc import Iterable

from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Rule, Severity, Violation
from rapidrtmp.m3u8.transitions import PlaylistChecker, delta_violations

__all__ = [
    "PlaylistChecker",
    "Rule",
    "Severity",
    "Violation",
    "assert_valid_delta",
    "assert_valid_playlist",
    "assert_valid_playlists",
]


def assert_valid_playlist(text: str | bytes, *, warnings: bool = False) -> None:
    """
    Hold one version of a media playlist to all rules that can be seen in it alone.

    :param warnings: whether to fail for what is only advised against.
    :raises AssertionError: it breaks some; all of them are named, with the text.
    """
    assert_valid_playlists([text], warnings=warnings)


def assert_valid_playlists(versions: Iterable[str | bytes], *, warnings: bool = False) -> None:
    """
    Hold successive versions of one media playlist, delta updates among them, to all rules.

    :param warnings: whether to fail for what is only advised against.
    :raises AssertionError: at the first version that breaks one; all that it breaks are named, with its text.
    """
    checker = PlaylistChecker()
    for number, version in enumerate(versions):
        _raise_for(checker.check(version), warnings, f"version {number}", version)


def assert_valid_delta(previous: str | bytes, full: str | bytes, delta: str | bytes) -> None:
    """
    Hold a delta update to this: merged with the version before it makes exactly the full version.

    :param previous: the full version that a player has.
    :raises AssertionError: it does not, or it skips what it must not.
    """
    found = delta_violations(*map(parse_media_playlist, (previous, full, delta)))
    _raise_for(list(found), True, "the delta update", delta)


def _raise_for(found: list[Violation], warnings: bool, what: str, text: str | bytes) -> None:
    wrong = [one for one in found if warnings or one.severity is Severity.ERROR]
    if wrong:
        listing = "\n".join(map(str, wrong))
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        raise AssertionError(f"{what} breaks the rules:\n{listing}\n\n{text}")
