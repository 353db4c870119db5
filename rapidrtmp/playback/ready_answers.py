"""Answers that are made once and sent to all who ask: kept on the HTTP side, for as long as what they are made of."""

from __future__ import annotations

from collections.abc import Hashable
from weakref import ref

from rapidrtmp.interfaces import Response

__all__ = ["ReadyAnswers"]

Key = tuple[Hashable, ...]


class ReadyAnswers:
    """
    Answers by the object that they are made of and by whatever tells its answers apart.

    The first item of a key is the ``id`` of that object. It is free for another one when the object is gone, and then
    so are its answers.

    :ivar find: the answer with this key, or ``None``; a plain look-up, for every request begins with it.
    """

    def __init__(self) -> None:
        self._answers: dict[Key, Response] = {}
        self._made_of: dict[int, tuple[ref[object], list[Key]]] = {}
        self.find = self._answers.get

    def __len__(self) -> int:
        """How many there are."""
        return len(self._answers)

    def keep(self, made_of: object, key: Key, answer: Response) -> Response:
        """Keep an answer until the object that it is made of is gone."""
        number = id(made_of)
        if number not in self._made_of:
            self._made_of[number] = ref(made_of, lambda _: self._forget(number)), []
        self._made_of[number][1].append(key)
        self._answers[key] = answer
        return answer

    def _forget(self, number: int) -> None:
        _, keys = self._made_of.pop(number)
        for key in keys:
            del self._answers[key]
