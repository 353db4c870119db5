"""What people call recordings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import BadRequestError
from rapidrtmp.recording.titles import MOST_BYTES, check_title, read_title_key, title_key
from tests.recording.recordings import ID


class TitleTests(SynchronousTestCase):
    @given(st.text(max_size=60))
    def test_title_stands_in_a_key(self, text: str) -> None:
        """Whatever people write, it comes back from the key as it was taken, and the key is one that storages take."""
        try:
            title = check_title(text)
        except BadRequestError:
            return
        if title:
            key = title_key(ID, title)
            self.assertEqual((ID, title), read_title_key(key))
            self.assertRegex(key.rpartition("/")[2], r"\A[\w.-]{1,255}\Z")

    def test_spaces_that_say_nothing_are_left_out(self) -> None:
        """A title is one line, without what cannot be seen."""
        self.assertEqual("Opening night", check_title("  Opening\n\tnight\0 "))
        self.assertEqual("", check_title(" "))

    def test_too_long_is_refused(self) -> None:
        """What fits into no file name, or is no text, is refused."""
        self.assertEqual(MOST_BYTES, len(check_title("x" * MOST_BYTES)))
        for wrong in ("x" * (MOST_BYTES + 1), "é" * MOST_BYTES, None, 7, ["x"]):
            self.assertRaises(BadRequestError, check_title, wrong)

    def test_other_keys_are_no_titles(self) -> None:
        """What stands beside it in the catalogue is no title, nor is a damaged one."""
        for key in (ID.catalogue_key, ID.protection_key, f"{title_key(ID, 'x')}!", "recordings/.catalogue/x.title.eA"):
            self.assertIsNone(read_title_key(key), key)
