"""Every input that fuzzing starts from, and every one that it found something with (``fuzz/corpus``)."""

from __future__ import annotations

import importlib

from twisted.trial.unittest import SynchronousTestCase

from fuzz import CORPUS, TARGETS
from tests.slow import slow


class FuzzCorpusTests(SynchronousTestCase):
    def test_corpus_breaks_no_promise(self) -> None:
        """No input of any target makes it break its promises."""
        for target in TARGETS:
            run = importlib.import_module(f"fuzz.{target}").run
            for path in sorted((CORPUS / target).iterdir()):
                try:
                    run(path.read_bytes())
                except Exception as error:
                    raise AssertionError(f"fuzz/corpus/{target}/{path.name}: {error!r}") from error

    @slow
    def test_torn_inputs_break_no_promise(self) -> None:
        """Nor does any that is cut off or has a byte changed."""
        for target in TARGETS:
            run = importlib.import_module(f"fuzz.{target}").run
            for path in sorted((CORPUS / target).iterdir()):
                whole = path.read_bytes()
                for at in range(0, len(whole), max(1, len(whole) // 20)):
                    run(whole[:at])
                    run(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])

    def test_every_target_has_a_corpus(self) -> None:
        """There is a folder of inputs for each target, and for nothing else."""
        self.assertEqual(sorted(TARGETS), sorted(path.name for path in CORPUS.iterdir() if any(path.iterdir())))
