"""
Limits that an operator can set: declared once, with default and meaning, where they are kept.

A limit is a field of a frozen dataclass of its owner. The settings find it there: its unit is what its name ends in
(``_ms``, ``_s``, ``_bytes``; else a number), and a default of ``None`` is one that the server finds itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Limit", "limit"]


@dataclass(frozen=True, slots=True)
class Limit:
    """
    What the settings have to know of a limit besides its name and default.

    :ivar help: one line.
    :ivar key: what it is called there, if not as here; without the unit.
    :ivar minimum: the least that a number may be.
    """

    help: str
    key: str = ""
    minimum: int = 0


def limit(default: Any, help: str, *, key: str = "", minimum: int = 0) -> Any:
    """A field of a dataclass of limits; see :class:`Limit`."""
    return field(default=default, metadata={"limit": Limit(help, key, minimum)})
