from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import Response
from rapidrtmp.live.shelf import ShelfObject
from rapidrtmp.playback.ready_answers import ReadyAnswers


class ReadyAnswersTests(SynchronousTestCase):
    def test_answers_are_kept_by_parts(self) -> None:
        """Answers are found by what they are made of and by what tells them apart."""
        ready, one, other = ReadyAnswers(), ShelfObject((b"1",), "", ""), ShelfObject((b"2",), "", "")
        answers = {}
        for made_of in (one, other):
            for gzipped in (False, True):
                key = (id(made_of), gzipped)
                self.assertIsNone(ready.find(key))
                answers[key] = ready.keep(made_of, key, Response(200, {}, made_of.body))
        for key, answer in answers.items():
            self.assertIs(answer, ready.find(key))

    def test_answers_go_with_their_object(self) -> None:
        """When an object is gone from its shelf, so are all answers made of it, and no other's."""
        ready, one, other = ReadyAnswers(), ShelfObject((b"1",), "", ""), ShelfObject((b"2",), "", "")
        for made_of in (one, other):
            for gzipped in (False, True):
                ready.keep(made_of, (id(made_of), gzipped), Response(200, {}))
        del made_of, one
        self.assertEqual(2, len(ready))
        self.assertIsNotNone(ready.find((id(other), True)))
