"""``rapidrtmp serve``: the server in the foreground, with the options of ``twistd rapidrtmp`` and no pid file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

__all__ = ["serve"]


class _ForegroundOptions(ServerOptions):
    """
    The options of ``twistd`` with one subcommand, which is known without Twisted's plugin cache.

    So it works in an editable install too, which hides ``twisted/plugins`` from ``twistd``.
    """

    synopsis = "Usage: rapidrtmp"

    @property
    def subCommands(self) -> list[tuple[str, None, Any, str]]:
        """``serve``, which leads where ``twistd rapidrtmp`` leads."""
        maker = ServiceMaker("RapidRTMP", "rapidrtmp.tap", "Run the server in the foreground", "serve")
        self.loadedPlugins = {maker.tapname: maker}
        return [(maker.tapname, None, lambda: maker.options(), maker.description)]


def serve(arguments: Sequence[str]) -> int:
    """
    Run the server until a signal stops it; what makes a start impossible ends the process with one line.

    :param arguments: as behind ``twistd rapidrtmp``.
    :returns: the exit status, where no signal ended the process.
    """
    options = _ForegroundOptions()  # type: ignore[no-untyped-call]
    try:
        options.parseOptions(["--nodaemon", "serve", *arguments])  # type: ignore[no-untyped-call]
    except usage.UsageError as error:
        print(f"rapidrtmp: {error}", file=sys.stderr)
        return 1
    runApp(options)
    return 0
