"""The state beside the stored playlist."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MediaError
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.interfaces import Constants


class MirrorStateTests(SynchronousTestCase):
    def test_text_is_one_line(self) -> None:
        """It is one line of JSON."""
        self.assertEqual(
            b'{"format": 1, "targetDuration": 2, "partTarget": 334, "nextSequence": 77, "ended": false, '
            b'"discontinuity": 5}\n',
            StoredState(Constants(2, 334), 77, discontinuity=5).render(),
        )

    def test_written_state_reads_back(self) -> None:
        """What was written is read."""
        for state in (StoredState(Constants(2, 334), 77), StoredState(Constants(10, 0), 0, ended=True)):
            self.assertEqual(state, StoredState.parse(state.render()))

    def test_earlier_versions_are_read(self) -> None:
        """A state that does not tell of discontinuities is read all the same."""
        stored = b'{"format": 1, "targetDuration": 2, "partTarget": 334, "nextSequence": 77, "ended": false}\n'
        self.assertEqual(StoredState(Constants(2, 334), 77), StoredState.parse(stored))

    def test_damaged_state_is_refused_whole(self) -> None:
        """What is cut off, of another format or makes no sense is refused as a whole."""
        whole = StoredState(Constants(2, 334), 77, discontinuity=5).render()
        for length in range(len(whole) - 1):
            self.assertRaises(MediaError, StoredState.parse, whole[:length])
        for old, new in (
            (b'"format": 1', b'"format": 2'),
            (b"77", b'"77"'),
            (b"77", b"-1"),
            (b"77", b"true"),
            (b"5}", b"-5}"),
            (b"5}", b"true}"),
            (b"2,", b"0,"),
            (b"334", b"2001"),
            (b"false", b"0"),
            (b'"ended"', b'"over"'),
            (b"77", b"\xff"),
        ):
            self.assertRaises(MediaError, StoredState.parse, whole.replace(old, new))
        self.assertRaises(MediaError, StoredState.parse, b"[]")
