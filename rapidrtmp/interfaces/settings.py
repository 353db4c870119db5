"""
A section of settings that a plugin brings: keys of the configuration file and of the environment, beside the server's.

A section is a frozen dataclass, each field of which is declared by :func:`setting`; the plugin's entry names it as its
``settings_path``, and what the plugin is called is what the section is called::

    @dataclass(frozen=True)
    class ArchiveSettings:
        keep_days: int = setting(7, "Days that recordings are kept; 0 for ever")
        pause_ms: int = setting(500, "Pause between two uploads")

So ``[archive]`` has the keys ``keep_days`` and ``pause``, and ``RAPIDRTMP_ARCHIVE_PAUSE=2s`` sets the second. A sink, a
storage or an authenticator is given the keys that are arguments of its own as text, where its spec says nothing of
them; a contributor reads all of them by ``ContributionContext.section``. Values that do not go together may be
refused in ``__post_init__`` by a ``ValueError`` that says what would be right.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidrtmp.support.limits import Limit

__all__ = ["DeclaredSetting", "Outcome", "setting"]


class Outcome(enum.Enum):
    """What becomes of a key that new settings change while the server runs."""

    APPLIED = "applied"
    FOR_NEW_STREAMS = "for new streams"
    NEEDS_RESTART = "needs a restart"


@dataclass(frozen=True, slots=True)
class DeclaredSetting(Limit):
    """
    What the settings know of a plugin's key besides its name and default.

    :ivar choices: the texts that it may be; empty for any.
    :ivar secret: whether it is shown nowhere.
    :ivar holds_secrets: whether it names a file that does.
    :ivar check: called with a value that was read; raises ``ValueError`` that says what would be right.
    :ivar when_changed: what becomes of it when the settings are replaced.
    """

    choices: Sequence[str] = ()
    secret: bool = False
    holds_secrets: bool = False
    check: Callable[[Any], object] | None = None
    when_changed: Outcome = Outcome.NEEDS_RESTART


def setting(
    default: Any,
    help: str,
    *,
    minimum: int = 0,
    choices: Sequence[str] = (),
    secret: bool = False,
    holds_secrets: bool = False,
    check: Callable[[Any], object] | None = None,
    when_changed: Outcome = Outcome.NEEDS_RESTART,
) -> Any:
    """
    Declare a field of a section.

    :param default: says what values there are: ``True`` or ``False``; a whole number, which is a duration if the name
        of the field ends in ``_ms`` or ``_s`` and a size if it ends in ``_bytes`` (both are written with a unit, and
        the key is the name without that end); another number; a text; or a tuple of texts, which is written as a list.
        With ``None`` it is a whole number or a duration, or ``auto``, which is ``None``: the plugin finds it itself.
    :param help: one line: what it is, its unit if it has one, and what 0 or empty means.
    :param minimum: the least that a whole number may be.
    :param holds_secrets: whether it names a file that holds secrets: no start with that in a folder which is served.
    :param when_changed: *applied* if the plugin asks for the value whenever it needs it; *for new streams* if it is an
        argument of a sink. Keys of a storage need a restart, whatever is said here.
    """
    declared = DeclaredSetting(
        help,
        minimum=minimum,
        choices=choices,
        secret=secret,
        holds_secrets=holds_secrets,
        check=check,
        when_changed=when_changed,
    )
    return field(default=default, repr=not secret, metadata={"limit": declared})
