from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.guard import LivePlaylistGuard
from rapidrtmp.hls.pieces import KnownVersion
from rapidrtmp.interfaces import Playlist
from rapidrtmp.m3u8.rules import Rule
from tests.hls.versions import versions, with_body

STREAM = list(versions(14, breaks=(5, 9)))
LONG = list(versions(24, size=16, breaks=(5, 9), ended=True))
PLAIN = list(versions(14, parts=0))
AHEAD = list(versions(14, breaks=(5, 9), ahead=True))


@st.composite
def mutations(draw: st.DrawFn) -> tuple[list[Playlist], int, bytes, bool]:
    """A stream, the number of one of its versions, another text for it, and whether that is the delta update's."""
    stream = draw(st.sampled_from([STREAM, LONG, PLAIN, AHEAD]))
    number = draw(st.integers(1, len(stream) - 1))
    delta = stream[number].delta is not None and draw(st.booleans())
    text = (stream[number].delta if delta else stream[number].body) or b""
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    other = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(["drop", "twice", "swap", "digit", "digit", "move"]))
    if kind == "drop":
        del lines[at]
    elif kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "move":
        lines.insert(other, lines.pop(at))
    else:
        digits = [place for place, octet in enumerate(lines[at]) if 48 <= octet <= 57]
        if digits:
            place = draw(st.sampled_from(digits))
            digit = draw(st.sampled_from(b"0123456789"))
            lines[at] = lines[at][:place] + bytes([digit]) + lines[at][place + 1 :]
    return stream, number, b"".join(lines), delta


class GuardTests(SynchronousTestCase):
    def test_clean(self) -> None:
        """A good stream is good, from its first version to ENDLIST."""
        for stream in (STREAM, LONG, PLAIN, AHEAD):
            guard = LivePlaylistGuard()
            for version in stream:
                self.assertEqual([], guard.check(version))

    def test_short_way(self) -> None:
        """After the first version, and but for the final one, no version is read as a whole."""
        for stream in (STREAM, LONG[:-1], PLAIN, AHEAD):
            guard = LivePlaylistGuard()
            guard.check(stream[0])
            known = guard._known
            self.assertIsInstance(known, KnownVersion)
            for version in stream[1:]:
                guard.check(version)
            self.assertIs(known, guard._known)

    @given(mutations())
    def test_same_verdict(self, mutation: tuple[list[Playlist], int, bytes, bool]) -> None:
        """Whatever is changed in a version, the short way comes to the verdict of the whole one, then and after."""
        stream, number, text, is_delta = mutation
        changed = replace(stream[number], delta=text) if is_delta else with_body(stream[number], text)
        short, whole = LivePlaylistGuard(), LivePlaylistGuard(incremental=False)
        for version in (*stream[max(0, number - 8) : number], changed, *stream[number : number + 8]):
            self.assertEqual(whole.check(version), short.check(version))

    def test_wrong_facts(self) -> None:
        """What the shelf would hold requests by must be what the playlist says."""
        for wrong in (
            {"last_sequence": 3},
            {"open_parts": 5},
            {"target_ms": 1},
            {"part_target_ms": 1},
            {"ended": True},
        ):
            guard = LivePlaylistGuard()
            guard.check(STREAM[0])
            (found,) = guard.check(replace(STREAM[1], **wrong))  # type: ignore[arg-type]
            self.assertEqual(Rule.FACTS, found.rule)

    def test_bad_version_is_forgotten(self) -> None:
        """The version after a bad one is held to the last good one."""
        guard = LivePlaylistGuard()
        for version in STREAM[:20]:
            guard.check(version)
        bad = with_body(STREAM[20], STREAM[20].body.replace(b"TARGETDURATION:2", b"TARGETDURATION:3"))
        self.assertIn(Rule.FROZEN, {found.rule for found in guard.check(bad)})
        self.assertEqual([], guard.check(STREAM[20]))
        self.assertEqual([], guard.check(STREAM[21]))

    def test_bad_first_version(self) -> None:
        """With nothing before it to keep, a bad first version is what the next must follow from."""
        guard = LivePlaylistGuard()
        bad = [with_body(one, one.body.replace(b"HOLD-BACK=6.0", b"HOLD-BACK=2.0")) for one in STREAM[:2]]
        self.assertEqual([Rule.HOLD_BACK], [found.rule for found in guard.check(bad[0])])
        self.assertEqual([Rule.HOLD_BACK], [found.rule for found in guard.check(bad[1])])
