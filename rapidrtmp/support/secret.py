"""Text that is not to be shown: it prints as asterisks, whichever way it comes into a log line or a message."""

from __future__ import annotations

__all__ = ["Secret", "reveal"]

SHOWN = "***"


class Secret(str):
    """A secret: text in all but that ``str``, ``repr`` and formatting do not show it; see :func:`reveal`."""

    __slots__ = ()

    def __str__(self) -> str:
        return SHOWN

    def __repr__(self) -> str:
        return SHOWN

    def __format__(self, _form: str) -> str:
        return SHOWN


def reveal(text: str) -> str:
    """The text itself, where it is to be sent or compared; any other text is as it is."""
    return str.__str__(text)
