"""
What a plugin brings to the server besides what it was chosen for: routes, services, commands, settings.

A *contributor* is asked once, and answers with a :class:`Contribution`. There are two ways to be one. A
``ContributionPlugin`` entry names a class that is called without arguments, and is there in every server that has it
installed; it is asked when the server is made. The factory of a sink that an application uses is asked as well, if it
provides ``IContributes``; one that comes in with new settings when it does. What that brings stays until no
application has the factory and no stream is left of one that had it.

Where the same sink is in several applications each factory is asked, and a route that they all bring is answered by
that of the first application. One that has come in with new settings answers in place of those that it replaced.

Any plugin may bring a section of settings besides: its entry says where that is declared, as
:mod:`rapidrtmp.interfaces.settings` has it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import IService
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces.applications import IApplication
from rapidrtmp.interfaces.events import IEventListener, IEventLog
from rapidrtmp.interfaces.http import Request, Response, Route
from rapidrtmp.interfaces.ingest import Publication
from rapidrtmp.interfaces.playback import IPlayable, IViewers, Playlist
from rapidrtmp.interfaces.sinks import ISinkFactory, Purpose
from rapidrtmp.interfaces.storage import InThread, IStorage
from rapidrtmp.names import StreamName

__all__ = [
    "Command",
    "Contribution",
    "ContributionContext",
    "IContributes",
    "IContributesCommands",
    "ILiveStream",
    "IStreams",
    "MediaFinder",
    "StreamDemand",
    "no_demand",
]

#: Answers a request for media of a stream that its shelf does not hold: ``None`` for what is not the finder's.
MediaFinder = Callable[[Request, StreamName, str], Deferred[Response] | None]


class ILiveStream(Interface):
    """A stream that is live, interrupted, or ended and still served."""

    name: StreamName = Attribute("Its public name.")
    has_ended: bool = Attribute("Whether nothing follows.")
    viewers: IViewers = Attribute("Counts who watches.")
    via: tuple[str, ...] = Attribute("The ids of the servers that it came through, the first one first.")
    sinks: Mapping[str, Any] = Attribute("What made each sink that takes its frames now, by the name of the sink.")

    def start_sink(name: str, factory: ISinkFactory) -> None:
        """Make one more sink, and let it have the frames since the last keyframe and those that follow."""

    def detach(name: str) -> Deferred[None] | None:
        """Finish and let go of the sink of that name, if there is one."""

    def playlist(name: str) -> Playlist | None:
        """The version of a playlist that viewers have now; ``None`` if none of that name is on the shelf."""

    def is_promised(name: str) -> bool:
        """Whether that name is announced and not there yet."""


class IStreams(Interface):
    """All streams of the server."""

    def find(name: StreamName) -> ILiveStream | None:
        """The stream of that name."""


#: Asked for a stream that is not here, for a player that came through some servers; it may begin one. ``None`` if it is
#: not known there, else a Deferred of the caller's own that fires, and never fails, when the stream has begun or the
#: wait for it is over. To cancel it is to want the stream no more.
StreamDemand = Callable[[StreamName, tuple[str, ...]], Deferred[None] | None]


def no_demand(_name: StreamName, _via: tuple[str, ...]) -> None:
    """Know of no streams."""


def _no_publish(publication: Publication) -> Deferred[Any]:
    raise MisuseError(f"nothing takes {publication.name}")


def _no_playable(_name: StreamName) -> None:
    """Know of no streams."""


def _elect(_what: str) -> Deferred[bool]:
    return succeed(True)


def _resign(_what: str) -> None:
    pass


def _no_section(name: str) -> Any:
    raise KeyError(name)


@dataclass(frozen=True)
class ContributionContext:
    """
    What a contributor is given to work with.

    :ivar apps: the applications by name. New settings put others in their places, so look them up when they are needed.
    :ivar streams: all streams of the server.
    :ivar find_playable: finds a stream as viewers see it, whichever process of this server it lives in.
    :ivar storage: the storage that applications without one of their own use for a purpose, if there are any; else one
        that some application uses.
    :ivar clock: time and timers.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar metrics: where to register metrics; their names begin with ``rapidrtmp_``.
    :ivar events: what happens; a contributor may record what it does.
    :ivar is_persistent: whether what is in that storage outlives the process.
    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` runs a blocking call in a thread that plugins share.
    :ivar server_id: what other servers know this one by; another one at each start.
    :ivar publish: brings a stream in; fires with an ``IPublishing``. It fails with a ``RapidRTMPError`` that says why,
        if the name has a publisher, or the stream may not begin.
    :ivar section: ``section(name)`` is what a plugin's section of the settings holds now, an instance of its dataclass;
        new settings put another in its place, so ask when it is needed. ``KeyError`` where no plugin brings it.
    :ivar elect: ``elect(what)`` asks whether this process is the one, of several that serve the same, that does what
        only one may do; fires with the answer, and never fails. One that is not asks again after a while: it becomes
        the one when that has died. ``resign(what)`` lets another do so.
    """

    apps: Mapping[str, IApplication]
    streams: IStreams
    storage: Callable[[Purpose], IStorage]
    clock: IReactorTime
    utc_ms: Callable[[], int]
    metrics: CollectorRegistry
    is_persistent: Callable[[Purpose], bool] = lambda _purpose: False
    in_thread: InThread = maybeDeferred
    server_id: str = "server"
    publish: Callable[[Publication], Deferred[Any]] = _no_publish
    section: Callable[[str], Any] = _no_section
    events: IEventLog | None = None
    find_playable: Callable[[StreamName], IPlayable | None] = _no_playable
    elect: Callable[[str], Deferred[bool]] = _elect
    resign: Callable[[str], None] = _resign


@dataclass(frozen=True)
class Contribution:
    """
    What a contributor brings.

    :ivar routes: served beside ours; the first segment of a rule is ``api``, or a name that no application has.
    :ivar paths: what describes them in OpenAPI 3.1, by path; likewise ``schemas``, its components.
    :ivar services: started in this order behind ours, and stopped before them, the last one first.
    :ivar find_media: asked for media of a stream that is not on its shelf; who asks is a viewer, and has a seat.
    :ivar listeners: they hear of everything that happens.
    :ivar demand: asked for streams that are not here, when a player that may watch asks for one.
    :ivar stream_facts: what the API shows of a stream besides, by name; ``stream_schema`` describes it, name by name.
    :ivar player_data: what the player page tells its script: attributes ``data-NAME``, each the name of something below
        the stream.
    :ivar apps_changed: called when the applications are others than before.
    """

    routes: Sequence[Route] = ()
    paths: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    services: Sequence[IService] = ()
    find_media: MediaFinder | None = None
    player_data: Mapping[str, str] = field(default_factory=dict)
    apps_changed: Callable[[], None] = lambda: None
    listeners: Sequence[IEventListener] = ()
    demand: StreamDemand = no_demand
    stream_facts: Callable[[StreamName], Mapping[str, object]] | None = None
    stream_schema: Mapping[str, Any] = field(default_factory=dict)


class IContributes(Interface):
    """Brings something to a server."""

    def contribute(context: ContributionContext) -> Contribution:
        """
        Say what it is. Nothing works yet: what is to be begun belongs into a service. Raises ``ConfigurationError`` if
        it can never work, which stops the start.
        """


@dataclass(frozen=True)
class Command:
    """
    A command of the program ``rapidrtmp``.

    :ivar name: what it is called by.
    :ivar help: one line.
    :ivar add_arguments: adds its arguments to its parser.
    :ivar run: does the work without a server and returns the exit status; a ``RapidRTMPError`` is shown in one line.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


class IContributesCommands(Interface):
    """What the class of a ``ContributionPlugin`` provides besides, if it has commands for the program ``rapidrtmp``."""

    def commands() -> Sequence[Command]:
        """Those it has; asked whenever the program runs, so import only in them what they need."""
