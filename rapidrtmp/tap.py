"""
``twistd rapidrtmp``: the command line, and the one place where the parts meet and the reactor comes from.

Whatever makes a start impossible is one line on standard error and exit status 1.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import MutableMapping, Sequence
from typing import IO, Any, NoReturn

from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    formatEvent,
    formatTime,
    textFileLogObserver,
)
from twisted.python import usage

from rapidrtmp import __version__
from rapidrtmp.chosen import ChosenPlugins, choose_plugins
from rapidrtmp.config import Settings
from rapidrtmp.discovery import list_plugins
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.provenance import DEFAULT, Loaded, load_settings

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """
    What the command line says; once parsed, ``loaded`` holds all settings with where each came from.

    ``--list-plugins`` and ``--check-config`` print and exit while parsing.
    """

    synopsis = "[options]"
    longdesc = (
        "A live media server: RTMP in, low-latency HLS out. ENDPOINT is a Twisted endpoint string (tcp:1935, "
        "ssl:1936:privateKey=key.pem:certKey=cert.pem); SPEC names a plugin and its arguments (hls:segment=2s). "
        "Every setting may also come from the environment or the file: --check-config lists them."
    )
    optFlags = [  # noqa: RUF012 - Twisted's way
        ["demo", None, "Publish a test picture and tone as live/demo (needs FFmpeg)"],
        ["list-plugins", None, "List sinks, storages and authenticators with their arguments, and exit"],
        ["check-config", None, "Check everything, print each setting and where it came from, and exit"],
    ]
    optParameters = [  # noqa: RUF012 - Twisted's way
        ["config", None, None, "TOML file with settings"],
        ["storage", None, None, "SPEC of where objects are kept (default local:data/streams)"],
        ["api-token", None, None, "Secret of the management API; without one it answers loopback clients only"],
        ["log-format", None, None, "text or json (default text)"],
    ]
    loaded: Loaded

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.update(rtmp=[], http=[], sink=[], auth=[])

    def opt_rtmp(self, endpoint: str) -> None:
        """ENDPOINT that takes RTMP; may be repeated (default tcp:1935)"""
        self["rtmp"].append(endpoint)

    def opt_http(self, endpoint: str) -> None:
        """ENDPOINT that serves HTTP; may be repeated (default tcp:8080)"""
        self["http"].append(endpoint)

    def opt_sink(self, spec: str) -> None:
        """SPEC of where frames go; may be repeated (default hls)"""
        self["sink"].append(spec)

    def opt_auth(self, spec: str) -> None:
        """SPEC of who may publish; if repeated, one that consents is enough (default token)"""
        self["auth"].append(spec)

    def opt_version(self) -> NoReturn:
        """Print the version and exit"""
        _answer(f"RapidRTMP {__version__}")

    def parseArgs(self, *rest: str) -> None:
        """There are only options."""
        if rest:
            raise usage.UsageError(f"{rest[0]} is not an option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, and find all settings. Exits with one line if that fails."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            _stop(f"{error}{self._suggestion(str(error))}")

    def postOptions(self) -> None:
        """Load the settings; do what exits."""
        try:
            _leave_no_pid_file(self.parent)
            _install_reactor()
            if self["list-plugins"]:
                _answer(list_plugins())
            said = {name: value for name, value in self.items() if isinstance(value, str | list)}
            self.loaded = load_settings(said, os.environ, self["config"])
            if self.parent is not None and self.loaded.provenance["server.log_format"] != DEFAULT:
                _set_log_format(self.parent, self.loaded.settings.server.log_format)
            if self["check-config"]:
                _chosen_and_checked(_reactor(), self.loaded.settings)
                _answer(self.loaded.render())
        except ConfigurationError as error:
            _stop(str(error))

    def _suggestion(self, message: str) -> str:
        named = re.search(r"--([\w-]+)", message)
        close = difflib.get_close_matches(named[1] if named else "", [each.rstrip("=") for each in self.longOpt], n=1)
        return f"; did you mean --{close[0]}?" if close else ""


def makeService(options: Options) -> IService:
    """The whole server as one service. Exits with one line if it can not be made."""
    from rapidrtmp.server import make_service

    reactor, settings = _reactor(), options.loaded.settings
    try:
        service: IService = make_service(
            reactor, settings, _chosen_and_checked(reactor, settings), demo=bool(options["demo"])
        )
    except ConfigurationError as error:
        _stop(str(error))
    return service


def _leave_no_pid_file(program: usage.Options | None) -> None:
    """
    Have ``twistd`` neither read nor write a pid file unless its command line names one.

    What a killed server leaves behind names, after the restart of a container, the new process itself, or another one.
    """
    if program is None or "pidfile" not in program:  # twist knows none
        return
    if program["pidfile"] is program.defaults["pidfile"]:  # the same object: one that was asked for may be equal
        program["pidfile"] = ""


def _install_reactor() -> None:
    """Ours, where the platform has what it needs and nobody chose another."""
    try:
        from rapidrtmp.net.reactor import install_if_free
    except ImportError:
        return
    install_if_free()


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _chosen_and_checked(reactor: Any, settings: Settings) -> ChosenPlugins:
    for name, descriptions in (("server.rtmp", settings.server.rtmp), ("server.http", settings.server.http)):
        for description in descriptions:
            try:
                serverFromString(reactor, description)
            except Exception as error:
                said = " ".join(str(error).split()) or type(error).__name__
                raise ConfigurationError(f"{name}: {description} is not usable: {said}") from error
    return choose_plugins(settings)


def _answer(text: str) -> NoReturn:
    print(text)
    raise SystemExit(0)


def _stop(message: str) -> NoReturn:
    print(f"rapidrtmp: {message}", file=sys.stderr)
    raise SystemExit(1)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _set_log_format(program: MutableMapping[str, Any], log_format: str) -> None:
    """Tell the program we are a plugin of, ``twistd`` or ``twist``, by its options, how to log."""
    if "fileLogObserverFactory" in program:  # twist
        program["fileLogObserverFactory"] = json_log_observer if log_format == "json" else textFileLogObserver
    elif log_format == "json":  # text is what twistd does by itself
        if not program["nodaemon"] or program["logfile"] not in (None, "", "-"):
            raise ConfigurationError("server.log_format json goes to standard output: use twistd -n without --logfile")
        if program["logger"] is None:
            program["logger"] = f"{__name__}.json_log_observer"


def json_log_observer(out_file: IO[str] | None = None) -> ILogObserver:
    """
    Writes each event as one line of JSON; ``out_file`` is standard output if left out.

    ``time``, ``level``, ``namespace`` and ``text``, the sentence; ``traceback`` where there is one; and the fields that
    the sentence is made of and that JSON can hold.
    """
    return FileLogObserver(sys.stdout if out_file is None else out_file, _json_line)


def _json_line(event: LogEvent) -> str:
    line: dict[str, Any] = {
        "time": formatTime(event["log_time"]),
        "level": event["log_level"].name,
        "namespace": event["log_namespace"],
        "text": formatEvent(event),
    }
    if "log_failure" in event:
        line["traceback"] = event["log_failure"].getTraceback()
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and isinstance(value, str | int | float | tuple | list | None)
    }
    return json.dumps({**line, **fields, **line}, default=lambda _: None, skipkeys=True) + "\n"
