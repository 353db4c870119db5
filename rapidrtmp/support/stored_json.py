"""
Small JSON objects that lie in a storage, read so that nothing passes that no writer of ours writes.

Disks and operators change bytes, and one number out of bounds (a date beyond the year 9999, ``1e999``) is enough to
break a computation far from the file it came from. So each field is held to its type and its bounds where it is read;
whatever is wrong is a ``MediaError`` that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rapidrtmp.errors import MediaError

__all__ = ["MOST", "MOST_MS", "StoredObjectFields"]

#: No whole number is greater: JSON's other readers keep no more digits.
MOST = 2**53 - 1
#: The last millisecond of the year 9999.
MOST_MS = 253_402_300_799_999
_LONGEST_TEXT = 256


class StoredObjectFields:
    """
    The fields of one JSON object.

    :raises MediaError: the text is something else.
    """

    def __init__(self, text: bytes) -> None:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MediaError(f"no JSON: {error!r:.200}") from error
        self._fields = self._checked(fields)

    @classmethod
    def of(cls, value: object) -> StoredObjectFields:
        """Of an object within another one. :raises MediaError: it is something else."""
        made = cls.__new__(cls)
        made._fields = cls._checked(value)
        return made

    @staticmethod
    def _checked(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise MediaError(f"no JSON object: {value!r:.100}")
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def value(self, name: str) -> object:
        """Whatever is there. :raises MediaError: there is nothing."""
        if name not in self._fields:
            raise MediaError(f"{name} is missing")
        return self._fields[name]

    def whole(self, name: str, least: int = 0, most: int = MOST) -> int:
        """A whole number within these bounds. :raises MediaError: it is none."""
        value = self.value(name)
        if type(value) is not int or not least <= value <= most:
            raise MediaError(f"{name} is {value!r:.100}, not a whole number from {least} to {most}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false, ``default`` where the field is missing and one is given. :raises MediaError: it is neither."""
        value = default if default is not None and name not in self._fields else self.value(name)
        if type(value) is not bool:
            raise MediaError(f"{name} is {value!r:.100}, neither true nor false")
        return value

    def text(self, name: str, longest: int = _LONGEST_TEXT) -> str:
        """Text of so many characters at most. :raises MediaError: it is none."""
        value = self.value(name)
        if not isinstance(value, str) or len(value) > longest:
            raise MediaError(f"{name} is {value!r:.100}, not a text of {longest} characters at most")
        return value

    def several(self, name: str, most: int) -> list[object]:
        """A list of so many values at most. :raises MediaError: it is none."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) > most:
            raise MediaError(f"{name} is {value!r:.100}, not a list of {most} values at most")
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A list of short texts. :raises MediaError: it is none."""
        values = self.several(name, most)
        if not all(isinstance(value, str) and len(value) <= _LONGEST_TEXT for value in values):
            raise MediaError(f"{name} is {values!r:.100}, not a list of short texts")
        return tuple(map(str, values))
