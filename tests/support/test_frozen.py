"""Frozen dataclasses whose fields are put into their slots."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.frozen import filled_by_slot


@dataclass(frozen=True, slots=True)
class Plain:
    number: int
    text: str = field(default="none", repr=False)
    pair: tuple[int, int] = (1, 2)


@filled_by_slot
@dataclass(frozen=True, slots=True)
class Filled:
    number: int
    text: str = field(default="none", repr=False)
    pair: tuple[int, int] = (1, 2)


class FilledBySlotTests(SynchronousTestCase):
    def test_like_any_other(self) -> None:
        """Such a class is like any other frozen dataclass: made, shown, compared, replaced, copied and sealed alike."""
        for make in (Plain, Filled):
            value = make(5, pair=(3, 4))
            self.assertEqual((5, "none", (3, 4)), (value.number, value.text, value.pair))
            self.assertEqual(f"{make.__name__}(number=5, pair=(3, 4))", repr(value))
            self.assertEqual(make(6, "some", (3, 4)), replace(value, number=6, text="some"))
            self.assertEqual(hash(make(5, "none", (3, 4))), hash(value))
            self.assertEqual([value, value], [copy.deepcopy(value), pickle.loads(pickle.dumps(value))])
            self.assertRaises(FrozenInstanceError, setattr, value, "number", 7)
            self.assertRaises(TypeError, make)
            self.assertRaises(TypeError, make, 1, "", (0, 0), 4)
        self.assertEqual(*(str(inspect.signature(make)) for make in (Plain, Filled)))

    def test_default_factory_is_refused(self) -> None:
        """A field whose default has to be made is refused where the class is declared."""

        @dataclass(frozen=True, slots=True)
        class Listing:
            names: list[str] = field(default_factory=list)

        self.assertRaises(AssertionError, filled_by_slot, Listing)
