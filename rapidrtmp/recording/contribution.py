"""
What recordings bring to the server: routes, the page, services that look after each storage, and a command.

All of it is there whether or not an application has a recorder: a stream can be recorded by hand, and what was recorded
before is still to be found.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zope.interface import implementer

from rapidrtmp.http.long_work import LongWork
from rapidrtmp.interfaces import (
    Audience,
    Command,
    Contribution,
    ContributionContext,
    IApplication,
    IContributes,
    IContributesCommands,
    IRecorderFactory,
    IStorage,
    Purpose,
    RetentionRules,
    Route,
)
from rapidrtmp.recording.clips import RecordedClips
from rapidrtmp.recording.http import Recordings
from rapidrtmp.recording.libraries import Libraries
from rapidrtmp.recording.library import Library
from rapidrtmp.recording.openapi import recording_paths, recording_schemas
from rapidrtmp.recording.page import LibraryPage
from rapidrtmp.recording.retention import Deletions, Retention
from rapidrtmp.recording.service import RecordingsService

__all__ = ["RecorderRules", "RecordingsContribution"]


@implementer(IContributes, IContributesCommands)
class RecordingsContribution:
    """Recordings, as a contributor."""

    def contribute(self, context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""
        storages = {name: app.storage(Purpose.RECORDINGS) for name, app in context.apps.items()}
        general = context.storage(Purpose.RECORDINGS)
        work = LongWork(context.clock)
        by_storage = {storage: Library(storage, context.clock, work=work) for storage in [*storages.values(), general]}
        libraries = Libraries({name: by_storage[storage] for name, storage in storages.items()}, by_storage[general])
        deletions = Deletions(context.metrics)
        return Contribution(
            routes=_routes(libraries, Recordings(libraries, context.streams, context.apps)),
            paths=recording_paths(),
            schemas=recording_schemas(),
            services=[
                RecordingsService(library, _retention(context, library, storages, deletions), context.clock)
                for library in by_storage.values()
            ],
        )

    def commands(self) -> Sequence[Command]:
        """See :meth:`IContributesCommands.commands <rapidrtmp.interfaces.IContributesCommands.commands>`."""
        help = "verify, repair or export the recordings in a storage"
        return [Command("recordings", help, _add_arguments, _run)]


def _retention(
    context: ContributionContext, library: Library, storages: dict[str, IStorage], deletions: Deletions
) -> Retention:
    """Keeps the limits of the applications whose recordings are in that library, as their recorders have them."""
    names = [name for name, storage in storages.items() if storage is library.storage]
    return Retention(library, RecorderRules(context.apps, names), context.utc_ms, deletions)


class RecorderRules(Mapping[str, RetentionRules]):
    """
    The limits of applications, as the recorders that they have now set them.

    :param names: those of the applications.
    """

    def __init__(self, apps: Mapping[str, IApplication], names: Sequence[str]) -> None:
        self._apps = apps
        self._names = names

    def __getitem__(self, name: str) -> RetentionRules:
        if name not in self._names:
            raise KeyError(name)
        recorders = (each for each in self._apps[name].sinks.values() if IRecorderFactory.providedBy(each))
        return RetentionRules.strictest(each.retention for each in recorders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _routes(libraries: Libraries, recordings: Recordings) -> Sequence[Route]:
    viewers, management = Audience.VIEWERS, Audience.MANAGEMENT
    one = "/api/v1/recordings/<app>/<key>/<start>"
    return (
        Route("POST", "/api/v1/streams/<key>/record", management, recordings.record),
        Route("POST", "/api/v1/streams/<app>/<key>/record", management, recordings.record),
        Route("GET", "/api/v1/recordings", management, recordings.index),
        Route("GET", one, management, recordings.show),
        Route("DELETE", one, management, recordings.delete),
        Route("POST", f"{one}/protect", management, recordings.protect),
        Route("GET", "/recordings", Audience.EVERYBODY, LibraryPage(libraries).respond),
        Route("GET", "/recordings/<app>/<key>/<start>/<name>", viewers, recordings.media),
        Route("GET", "/recordings/<app>/<key>/<name>", viewers, RecordedClips(libraries).respond),
    )


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    verify = actions.add_parser("verify", help="compare what is stored with the journals")
    verify.add_argument("--deep", action="store_true", help="read every part as well")
    repair = actions.add_parser("repair", help="close what a dead server left open, and mend journals and catalogue")
    export = actions.add_parser("export", help="take a recording out as one file, or as a folder for any web server")
    for action in (verify, repair, export):
        action.add_argument("storage", help="a directory, or a spec such as gcs:BUCKET")
    export.add_argument("recording", help="APP/KEY/START")
    export.add_argument("target", type=Path, help="FILE.mp4, or a new folder")


def _run(chosen: Namespace) -> int:
    from rapidrtmp.recording import tools

    work = {
        "verify": lambda storage: tools.verify(storage, deep=chosen.deep),
        "repair": tools.repair,
        "export": lambda storage: tools.export(storage, chosen.recording, chosen.target),
    }[chosen.action]
    outcome = tools.use_storage(chosen.storage, work)
    print("\n".join(outcome.lines))
    return 0 if outcome.is_well else 1
