"""Words for messages and log lines."""

from __future__ import annotations

from typing import IO

from rapidrtmp.errors import RapidRTMPError

__all__ = ["class_name", "encodable", "reason_of"]

#: Whose messages say by themselves what kind of thing is wrong.
_PLAIN = (RapidRTMPError, TypeError, ValueError, ImportError, AttributeError)


def reason_of(error: BaseException | None) -> str:
    """
    What an exception says, in one line; with the name of its class unless the message alone is clear.

    :param error: may be that of a failure, whose type allows ``None``.
    """
    said = " ".join(str(error).split())
    if said and isinstance(error, _PLAIN):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def encodable(text: str, out: IO[str]) -> str:
    """What can be written to a stream: a text in which escapes stand for what the encoding of the stream lacks."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def class_name(value: object) -> str:
    """The dotted name of the class of a value, by which the author of a plugin finds it."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
