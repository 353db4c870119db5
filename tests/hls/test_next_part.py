"""When a version adds one more part and nothing else; what is said of it then is in ``test_guard``."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.next_part import NextPart
from rapidrtmp.interfaces import Playlist
from rapidrtmp.m3u8.read import parse_media_playlist
from tests.hls.versions import versions, with_body

STREAM = list(versions(24, size=16))
#: The number of a version with a delta update, in which a second part follows the first of its segment.
SECOND = next(at for at, version in enumerate(STREAM) if version.open_parts == 2 and version.delta)


def grown_from(told: Playlist) -> NextPart:
    """What knows a version, read as a whole."""
    parsed = parse_media_playlist(told.body)
    assert parsed.open is not None
    stable = told.body[: told.body.index(b"#EXT-X-PRELOAD-HINT")]
    return NextPart(told, stable, parsed.open, parsed.hints, parsed.part_target_us)


class NextPartTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = grown_from(STREAM[SECOND - 1])
        self.next = STREAM[SECOND]

    def test_parts(self) -> None:
        """All parts of a segment but its first and its last are taken so, and then known as if read."""
        for version in STREAM[SECOND : SECOND + 3]:
            self.assertTrue(self.known.advance(version))
        parsed = parse_media_playlist(STREAM[SECOND + 2].body)
        self.assertEqual((parsed.open, parsed.hints), (self.known.opened, self.known.hints))
        self.assertFalse(self.known.advance(STREAM[SECOND + 4]))

    def test_changed(self) -> None:
        """Any octet that is not what was there, or must come, is left to whoever reads the whole."""
        body = self.next.body
        for wrong in (
            body.replace(b"#EXTM3U", b"#EXTM3V"),
            body.replace(b"DURATION=0.33333,URI=", b"DURATION=0.33434,URI="),
            body.replace(b"PRELOAD-HINT:TYPE=PART", b"PRELOAD-HINT:TYPE=MAP"),
            body.replace(b".1.m4s", b".7.m4s"),
            body.replace(b'.2.m4s"\n', b'.0.m4s"\n'),
            body.replace(b'.2.m4s"\n', b'.1.m4s"\n'),
            body + b"#EXT-X-ENDLIST\n",
            body[:-1],
        ):
            self.assertNotEqual(body, wrong)
            self.assertFalse(self.known.advance(with_body(self.next, wrong)), wrong)
        self.assertTrue(self.known.advance(self.next))

    def test_short_part(self) -> None:
        """A part that is shorter than all but the last of a segment may be is found when another follows it."""
        before, tail = STREAM[SECOND].body, STREAM[SECOND + 1].body
        at = before.rindex(b"DURATION=0.33")
        told = replace(STREAM[SECOND], body=before[:at] + b"DURATION=0.28000" + before[at + 16 :], delta=None)
        known = grown_from(told)
        body = known.stable + tail[tail.rindex(b"#EXT-X-PART:") :]
        self.assertFalse(known.advance(replace(STREAM[SECOND + 1], body=body, delta=None)))

    def test_delta(self) -> None:
        """A delta update that is not the last one with the same lines behind it is left to whoever reads it."""
        assert self.next.delta is not None
        for delta in (None, self.next.delta.replace(b"SKIPPED-SEGMENTS=1", b"SKIPPED-SEGMENTS=2"), self.next.delta[1:]):
            self.assertFalse(self.known.advance(replace(self.next, delta=delta)))
        self.assertTrue(self.known.advance(self.next))
