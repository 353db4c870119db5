"""What is said in a stream, as text for its viewers: who knows it adds it, and who packages the stream takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zope.interface import Attribute, Interface

__all__ = ["Caption", "ICaptions"]


@dataclass(frozen=True, slots=True)
class Caption:
    """
    One caption.

    :ivar language: one that was announced.
    :ivar text: plain text, one or a few lines; at most 2000 characters.
    :ivar start_ms: when it is to be shown, on the live stream's own timeline, as presentation times are, in
        milliseconds; likewise ``end_ms``, which is later by a minute at most.
    """

    language: str
    text: str
    start_ms: int
    end_ms: int


class ICaptions(Interface):
    """The captions of one stream: added by any of its sinks, and taken by any others."""

    tracks: Mapping[str, str] = Attribute("What was announced: names for people, by language.")

    def announce(language: str, name: str) -> None:
        """
        Say that there are captions in a language, so that players offer it from the beginning on; call it when the
        sink is made. Again is no error.

        :param language: as RFC 5646 has it: ``en``, ``pt-BR``.
        :param name: what viewers choose by: ``English``.

        Raises ``MisuseError``: it is no language, or one too many: there are eight at most.
        """

    def add(caption: Caption) -> None:
        """
        Add a caption. One that comes too late for its moment is shown a little later: from the beginning of the
        segment that is open then.

        Raises ``MisuseError``: its language was not announced, or it is too long.
        """

    def since(number: int) -> tuple[int, Sequence[Caption]]:
        """
        The captions that were added behind the first ``number``, as far as they are kept, and the number to ask with
        the next time.
        """
