"""
Which write of an object is the newest, and which generation of it the bucket was last seen to hold.

A write that has been given up may still arrive, late. It must not take the place of a newer one, so every
write says which generation it replaces, and one that has been overtaken is not repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from rapidrtmp.interfaces import IMMUTABLE

__all__ = ["ABSENT", "Generations", "ObjectWrite"]

#: The generation of an object that is not there.
ABSENT = 0
#: Of so many objects the generation is remembered; of others it is asked for.
REMEMBERED = 4096


@dataclass(eq=False, slots=True)
class ObjectWrite:
    """
    One ``put`` under way.

    :ivar data: taken away when the caller gave up waiting.
    :ivar overtaken: whether a newer ``put`` or a deletion of the key has begun.
    """

    key: str
    data: bytes | None
    content_type: str
    cache_control: str
    overtaken: bool = False

    @property
    def is_immutable(self) -> bool:
        """Whether the object is never replaced."""
        return self.cache_control == IMMUTABLE

    def wanted(self) -> bytes:
        """The bytes. :raises CancelledError: they are no longer wanted."""
        if (data := self.data) is None:
            raise CancelledError(f"writing {self.key} was given up")
        return data

    def give_up(self, failure: Failure) -> Failure:
        """Let go of the bytes."""
        self.data = None
        return failure


class Generations:
    """What is known of the objects of one bucket; may be asked from every thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._generations: OrderedDict[str, int] = OrderedDict()
        self._newest: dict[str, ObjectWrite] = {}

    def begin(self, write: ObjectWrite) -> None:
        """A write was asked for: all earlier ones of its key are overtaken."""
        with self._lock:
            self._overtake(write.key)
            self._newest[write.key] = write

    def end(self, write: ObjectWrite) -> None:
        """It is over, well or badly."""
        with self._lock:
            if self._newest.get(write.key) is write:
                del self._newest[write.key]

    def delete(self, key: str) -> None:
        """A deletion was asked for."""
        with self._lock:
            self._overtake(key)
            self._generations.pop(key, None)

    def of(self, key: str) -> int:
        """The generation last seen; an object never seen is taken for absent."""
        with self._lock:
            return self._generations.get(key, ABSENT)

    def saw(self, key: str, generation: int) -> None:
        """The bucket holds this generation, or did a moment ago; they only grow. ``ABSENT`` makes one forget."""
        with self._lock:
            known = self._generations.pop(key, ABSENT)
            if generation != ABSENT:
                self._generations[key] = max(generation, known)
            if len(self._generations) > REMEMBERED:
                self._generations.popitem(last=False)

    def _overtake(self, key: str) -> None:
        if older := self._newest.pop(key, None):
            older.overtaken = True
