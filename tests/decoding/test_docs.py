"""The examples of the page on decoding do what it says, as they are written there."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.decoding import Cue
from rapidrtmp.discovery import SinkPlugin
from rapidrtmp.testing.sinks import make_sink_context
from tests.slow import slow

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def module_of(source: str, name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile(source, f"docs/decoding.md ({name})", "exec"), module.__dict__)
    return module


@slow
class MotionTests(SynchronousTestCase):
    skip = None if importlib.util.find_spec("numpy") else "numpy is not installed (the extra av)"

    def setUp(self) -> None:
        self.motion: Any = module_of(BLOCKS[0], "motion")

    def test_movement_is_noted(self) -> None:
        """A picture that differs from the one before is noted, the same one again is not."""
        import numpy as np

        sink = self.motion.Motion(5.0)
        dark, bright = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 200, np.uint8)
        answers = [sink.picture(image, 1_000) for image in (dark, dark, bright)]
        self.assertEqual([None, None], answers[:2])
        self.assertEqual({"moved": 100.0, "at": 1_000}, answers[2].data)

    def test_factory_passes_its_arguments_on(self) -> None:
        """The factory names the class and its options, for the process to make it of."""
        factory = self.motion.MotionFactory("10")
        self.assertIs(self.motion.Motion, factory.sink)
        self.assertEqual({"threshold": 10.0}, factory._options)

    def test_entry_names_the_factory(self) -> None:
        """The entry is one that discovery understands."""
        entry = module_of(BLOCKS[1], "motion_plugin").motion
        self.assertIsInstance(entry, SinkPlugin)
        self.assertEqual(("motion", "motion.MotionFactory"), (entry.name, entry.factory_path))
        self.assertNotIn("motion", sys.modules)


@slow
class LiveCaptionsTests(SynchronousTestCase):
    skip = MotionTests.skip

    def test_sound_is_captioned(self) -> None:
        """Where the recogniser hears something there is a caption as long as the sound, and none where it does not."""
        import numpy as np

        module: Any = module_of(BLOCKS[2], "captions")
        sink = module.LiveCaptions()
        sink.sample_rate = 48_000
        self.assertIsNone(sink.audio(np.zeros((2, 96_000), np.float32), 1_000))
        self.assertEqual(Cue("(sound)", 3_000, 2_000), sink.audio(np.full((2, 96_000), 0.5, np.float32), 3_000))

    def test_languages_are_announced(self) -> None:
        """The factory announces its languages when a sink is made, before anything is heard."""
        factory = module_of(BLOCKS[2], "captions").LiveCaptionsFactory()
        context = make_sink_context()
        factory.create(context)
        self.assertEqual({"en": "English"}, dict(context.captions.tracks))
        entry = module_of(BLOCKS[3], "captions_plugin").captions
        self.assertEqual(("captions", "captions.LiveCaptionsFactory"), (entry.name, entry.factory_path))
