"""The captions of one stream, in bounds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import Caption, ICaptions
from rapidrtmp.live.captions import MOST_CAPTIONS, Captions


class CaptionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.captions = Captions()
        self.captions.announce("en", "English")

    def test_each_is_taken_once(self) -> None:
        """Each who asks gets what was added since it asked before."""
        verifyObject(ICaptions, self.captions)
        number, found = self.captions.since(0)
        self.assertEqual([], list(found))
        first, second = (Caption("en", text, 0, 1_000) for text in ("one", "two"))
        self.captions.add(first)
        number, found = self.captions.since(number)
        self.assertEqual([first], list(found))
        self.captions.add(second)
        number, found = self.captions.since(number)
        self.assertEqual([second], list(found))
        self.assertEqual((number, []), (number, list(self.captions.since(number)[1])))

    def test_old_ones_are_let_go(self) -> None:
        """However many come, no more than the last few hundred are kept."""
        for number in range(MOST_CAPTIONS + 50):
            self.captions.add(Caption("en", str(number), number, number + 1))
        _, found = self.captions.since(0)
        self.assertEqual((MOST_CAPTIONS, "50"), (len(found), found[0].text))

    def test_what_makes_no_sense_is_refused(self) -> None:
        """What is no language, was not announced, or is out of bounds is refused in words."""
        for language in ("", "e", "en_GB", "english language", "en/../x", "en-" + "x" * 20):
            self.assertRaises(MisuseError, self.captions.announce, language, "")
        for caption in (
            Caption("de", "nein", 0, 1),
            Caption("en", "x" * 2_001, 0, 1),
            Caption("en", "backwards", 2, 1),
            Caption("en", "long", 0, 60_001),
        ):
            self.assertRaises(MisuseError, self.captions.add, caption)
        for number in range(7):
            self.captions.announce(f"x{chr(97 + number)}", "")
        self.assertRaises(MisuseError, self.captions.announce, "de", "")
        self.captions.announce("en", "again")
        self.assertEqual("English", self.captions.tracks["en"])
