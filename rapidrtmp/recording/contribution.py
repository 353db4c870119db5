"""
What recordings bring to the server: routes, the page, services that look after each storage, and a command.

All of it is there whether or not an application has a recorder: a stream can be recorded by hand, and what was recorded
before is still to be found.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from twisted.application.service import MultiService
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
        care = _Care(context)

        def is_open(app: str) -> bool:
            found = context.apps.get(app)
            return found is None or found.play_authenticator is None

        return Contribution(
            routes=_routes(
                LibraryPage(care.libraries, is_open), Recordings(care.libraries, context.streams, context.apps)
            ),
            paths=recording_paths(),
            schemas=recording_schemas(),
            services=[care],
            apps_changed=care.follow,
        )

    def commands(self) -> Sequence[Command]:
        """See :meth:`IContributesCommands.commands <rapidrtmp.interfaces.IContributesCommands.commands>`."""
        help = "verify, repair or export the recordings in a storage"
        return [Command("recordings", help, _add_arguments, _run)]


class _Care(MultiService):
    """
    A library of each storage that recordings lie in, and what looks after it.

    :ivar libraries: all of them; those of applications that come with new settings as well.
    """

    def __init__(self, context: ContributionContext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context
        self._work = LongWork(context.clock)
        self._deletions = Deletions(context.metrics)
        self._by_storage: dict[IStorage, Library] = {}
        self._by_app: dict[str, Library] = {}
        self.follow()
        self.libraries = Libraries(self._by_app, self._library(context.storage(Purpose.RECORDINGS)))

    def follow(self) -> None:
        """See where the recordings of the applications that there are now lie."""
        found = {name: self._library(app.storage(Purpose.RECORDINGS)) for name, app in self._context.apps.items()}
        self._by_app.clear()
        self._by_app.update(found)

    def _library(self, storage: IStorage) -> Library:
        library = self._by_storage.get(storage)
        if library is None:
            context = self._context
            library = self._by_storage[storage] = Library(storage, context.clock, work=self._work)
            retention = Retention(library, RecorderRules(context.apps, storage), context.utc_ms, self._deletions)
            RecordingsService(library, retention, context.clock).setServiceParent(self)  # type: ignore[no-untyped-call]
        return library


class RecorderRules(Mapping[str, RetentionRules]):
    """
    The limits of the applications there are now whose recordings lie in a storage, as their recorders set them.

    :param apps: all applications, by name.
    """

    def __init__(self, apps: Mapping[str, IApplication], storage: IStorage) -> None:
        self._apps = apps
        self._storage = storage

    def __getitem__(self, name: str) -> RetentionRules:
        app = self._apps[name]
        if app.storage(Purpose.RECORDINGS) is not self._storage:
            raise KeyError(name)
        recorders = (each for each in app.sinks.values() if IRecorderFactory.providedBy(each))
        return RetentionRules.strictest(each.retention for each in recorders)

    def __iter__(self) -> Iterator[str]:
        found = [name for name, app in self._apps.items() if app.storage(Purpose.RECORDINGS) is self._storage]
        return iter(found)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _routes(page: LibraryPage, recordings: Recordings) -> Sequence[Route]:
    viewers, management = Audience.VIEWERS, Audience.MANAGEMENT
    one = "/api/v1/recordings/<app>/<key>/<start>"
    return (
        Route("POST", "/api/v1/streams/<key>/record", management, recordings.record),
        Route("POST", "/api/v1/streams/<app>/<key>/record", management, recordings.record),
        Route("GET", "/api/v1/recordings", management, recordings.index),
        Route("GET", one, management, recordings.show),
        Route("DELETE", one, management, recordings.delete),
        Route("POST", f"{one}/protect", management, recordings.protect),
        Route("POST", f"{one}/title", management, recordings.rename),
        Route("GET", "/recordings", Audience.PUBLIC, page.respond),
        Route("GET", "/recordings/<app>/<key>/<start>/<name>", viewers, recordings.media),
        Route("GET", "/recordings/<app>/<key>/<start>/<rendition>/<name>", viewers, recordings.media),
        Route("GET", "/recordings/<app>/<key>/<name>", viewers, RecordedClips(recordings.libraries).respond),
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
    export.add_argument("recording", help="APP/KEY/START, or APP/KEY/START/720p for another rendition of it")
    export.add_argument("target", type=Path, help="FILE.mp4, or a new folder")


def _run(chosen: Namespace) -> int:
    from rapidrtmp.recording import tools
    from rapidrtmp.support.progress import Progress

    progress = Progress()

    work = {
        "verify": lambda storage: tools.verify(storage, deep=chosen.deep, progress=progress),
        "repair": lambda storage: tools.repair(storage, progress=progress),
        "export": lambda storage: tools.export(storage, chosen.recording, chosen.target, progress),
    }[chosen.action]
    try:
        outcome = tools.use_storage(chosen.storage, work)
    finally:
        progress.clear()
    print("\n".join(outcome.lines))
    return 0 if outcome.is_well else 1
