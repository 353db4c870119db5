"""The server's log: its two forms, text and JSON, its level, and the file it may go to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import LogFile

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.support.text import encodable

__all__ = ["ServerLog", "component", "render_time", "server_log_observer"]


def server_log_observer(out: IO[str], log_format: str, level: str = "debug") -> ILogObserver:
    """
    Write the log to a stream.

    What the encoding of ``out`` lacks is written as ``\\xe9``, ``\\u20ac``, and no line is lost for it.

    :param log_format: ``text``, lines as those of ``twistd``, their times with milliseconds; or ``json``: an object a
        line with ``time``, ``level``, ``namespace`` and ``text``, the sentence; ``traceback`` where there is one; and
        the fields that the sentence is made of and that JSON can hold.
    :param level: the lowest that is written: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
    """
    render = _render_json if log_format == "json" else _render_text

    def line(event: LogEvent) -> str | None:
        text = render(event)
        return None if text is None else encodable(text, out)

    lowest = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    observer: ILogObserver = FilteringLogObserver(FileLogObserver(out, line), [lowest])
    return observer


def render_time(when_s: float | None) -> str:
    """``2026-11-30T16:06:27.123+0000``, in the time zone of the host; ``-`` for an event without a time."""
    if when_s is None:
        return "-"
    moment = datetime.fromtimestamp(when_s).astimezone()
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}{moment:%z}"


def _render_text(event: LogEvent) -> str | None:
    if event.get("log_system") is None and "log_namespace" in event:
        level = event["log_level"].name if "log_level" in event else "-"
        event = {**event, "log_system": f"{component(event['log_namespace'])}#{level}"}
    return formatEventAsClassicLogText(event, formatTime=render_time)


def component(namespace: str) -> str:
    """
    The part of the server that a line is of, for people: ``rapidrtmp.net``, ``rapidrtmp.sinks.hls``, ``twisted``.

    The modules and classes behind it are in the JSON form.
    """
    package, *names = namespace.split(".")
    if package == "twisted":
        return package
    if package != "rapidrtmp" or names[:1] in (["sinks"], ["storage"]):
        return namespace
    return ".".join((package, *(name for name in names[:1] if name.islower())))


def _render_json(event: LogEvent) -> str:
    line: dict[str, Any] = {
        "time": render_time(event["log_time"]),
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


class ServerLog:
    """
    Where the log goes.

    :param make_observer: makes what writes it to a stream.
    :param path: of the file, which is rotated by size as those of ``twistd`` are; ``None`` for standard output.
    :raises ConfigurationError: the file cannot be written to.
    :ivar observer: what writes it.
    """

    def __init__(self, make_observer: Callable[[IO[str]], ILogObserver], path: str | None) -> None:
        try:
            self._file = None if path is None else LogFile.fromFullPath(path)
        except OSError as error:
            raise ConfigurationError(f"the log file {path}: {error.strerror or error}") from error
        self.observer = make_observer(self._file or sys.stdout)

    def reopen(self) -> bool:
        """
        Open the file anew, which something else may have moved away.

        :returns: whether the log goes to a file.
        :raises OSError: the file cannot be opened; the one that is open stays.
        """
        if self._file is None:
            return False
        os.close(os.open(self._file.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
        self._file.reopen()
        return True
