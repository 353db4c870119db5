"""
Which application a client means by the path it names in connect.

Flash called the part behind an application's name its instance, and encoders still have URLs such as ``rtmp://h/live/0``
or ``rtmp://h/live/room7`` for it. Other servers either take the whole path for an application that is not there, or for
the application by its first segment; here an instance names its application, and aliases can say otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rapidrtmp.errors import ConfigurationError

__all__ = ["AppNames"]


class AppNames:
    """
    The applications, and the paths that lead to them.

    :param known: the names of the applications.
    :param aliases: ``PATH=APP`` each: a path of one or two segments, and the application it means.
    :raises ConfigurationError: an alias names an application that is not there.
    """

    def __init__(self, known: Collection[str], aliases: Iterable[str] = ()) -> None:
        self._known = known
        self._aliases: dict[str, str] = {}
        for alias in aliases:
            path, _, app = alias.rpartition("=")
            if app not in known:
                listed = ", ".join(sorted(known))
                raise ConfigurationError(f"rtmp.app_aliases: {alias!r} names no application: there is {listed}")
            self._aliases[path.strip("/")] = app

    def find(self, path: str) -> str | None:
        """
        Find the application of a path without query: the whole path, or else its first segment, as an alias or a name.

        :returns: its name; ``None`` if there is none.
        """
        for named in (path, path.partition("/")[0]):
            app = self._aliases.get(named, named)
            if app in self._known:
                return app
        return None
