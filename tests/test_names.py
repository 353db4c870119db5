"""Public names: what may be one, and that nothing else gets past the edge."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.names import MAX_NAME_LENGTH, RESERVED_APPS, BadNameError, StreamName


class StreamNameTests(SynchronousTestCase):
    def test_good_names_are_shown(self) -> None:
        """Letters, digits and a few signs make a name; it is shown as it appears in URLs."""
        for key in ("k", "Cam-01_b~c.d", "-", "a..b", "0" * MAX_NAME_LENGTH):
            self.assertEqual(f"live/{key}", str(StreamName.checked("live", key)))

    def test_bad_names_are_refused(self) -> None:
        """Anything that means something elsewhere does not, nor nothing, nor too much; the reason is given."""
        for key in ("", ".", "..", ".hidden", "a/b", "a b", "a%2f", "a?b", "a\n", "a\\b", "é", "a:b", "0" * 129):
            self.assertRaises(BadNameError, StreamName.checked, "live", key)
            self.assertRaises(BadNameError, StreamName.checked, key, "k")
        self.assertIn("129 characters", str(self.assertRaises(BadNameError, StreamName.checked, "live", "0" * 129)))

    def test_reserved_names_of_applications(self) -> None:
        """Applications may not be called what HTTP keeps for itself; streams may."""
        for app in RESERVED_APPS:
            self.assertRaises(BadNameError, StreamName.checked, app, "k")
        self.assertEqual(("live", "api"), StreamName.checked("live", "api"))

    @given(st.text(max_size=6), st.text(max_size=6))
    def test_any_text_is_harmless(self, app: str, key: str) -> None:
        """Whatever gets through is harmless in a path, a URL and a log."""
        try:
            name = StreamName.checked(app, key)
        except BadNameError:
            return
        self.assertTrue(re.fullmatch(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*/[A-Za-z0-9_~-][A-Za-z0-9._~-]*", str(name)))
