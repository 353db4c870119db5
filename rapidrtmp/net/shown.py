"""What can be shown of a name that a client asks for and that may be none: the rest may hold a secret."""

from __future__ import annotations

import re

from rapidrtmp.names import MAX_NAME_LENGTH

__all__ = ["showable", "showable_part"]

_SHOWABLE = re.compile(r"[A-Za-z0-9._~/-]{0,64}")


def showable(app: str, key: str) -> str:
    """The requested name up to the first character that no name has, for the log."""
    asked = f"{app}/{key if len(key) <= MAX_NAME_LENGTH else ' '}"
    text = showable_part(asked)
    return text if text == asked else f"{text}…"


def showable_part(text: str) -> str:
    """As much of a text as can be shown."""
    shown = _SHOWABLE.match(text)
    return shown[0] if shown else ""
