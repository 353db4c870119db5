"""What plugins bring to a server: routes, services, media and commands."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import Counter
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp import cli
from rapidrtmp.app.contributions import Contributions
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.discovery import factories
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Audience,
    Command,
    Contribution,
    ContributionContext,
    IContributes,
    IContributesCommands,
    ISinkFactory,
    Request,
    Response,
    Route,
    json_response,
)
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import FrameCollectorFactory
from tests.applications import FakeApplication
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings, open_app


@implementer(ISinkFactory, IContributes)
class Guestbook(FrameCollectorFactory):
    """A sink factory of a third party that has a route, media and a service."""

    def __init__(self, path: str = "/api/v1/guests") -> None:
        super().__init__()
        self.path = path
        self.service = Service()  # type: ignore[no-untyped-call]
        self.context: ContributionContext

    def contribute(self, context: ContributionContext) -> Contribution:
        self.context = context
        return Contribution(
            routes=[
                Route("GET", self.path, Audience.MANAGEMENT, lambda _request: json_response({"guests": 3})),
                Route("GET", "/guestbook/<app>/<key>", Audience.VIEWERS, self.respond),
            ],
            paths={self.path: {"get": {"operationId": "listGuests"}}},
            services=[self.service],
            find_media=self.find,
            player_data={"guests": "guests.json"},
        )

    def respond(self, _request: Request, app: str, key: str) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, f"{app} {key}".encode())

    def find(self, _request: Request, stream: StreamName, name: str) -> Deferred[Response] | None:
        return succeed(json_response([str(stream)])) if name == "guests.json" else None


class ContributionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.parent = MultiService()  # type: ignore[no-untyped-call]
        self.parent.startService()  # type: ignore[no-untyped-call]

    def contributions(self, *contributors: Any) -> Contributions:
        streams: Any = None
        context = ContributionContext({}, streams, lambda _: MemoryStorage(), Clock(), lambda: 0, Metrics().registry)
        return Contributions(contributors, context, self.parent)

    def ask(self, *contributors: Any, **sinks: Any) -> Sequence[Contribution]:
        contributions = self.contributions(*contributors)
        contributions.follow([FakeApplication(sinks=sinks)])
        return contributions.current


class AskingTests(ContributionsCase):
    def test_factories_are_asked_once(self) -> None:
        """The factory of a sink in use is asked too, once however often it is used; one that brings nothing is not."""
        guestbook = Guestbook()
        asked = self.ask(guests=guestbook, again=guestbook, hls=FrameCollectorFactory())
        self.assertEqual(1, len(asked))

    def test_same_route_stops_the_start(self) -> None:
        """Two that answer the same request stop the start, in one line that names both."""
        error = self.assertRaises(ConfigurationError, self.ask, Guestbook(), Guestbook())
        self.assertRegex(str(error), r"\A.*Guestbook and .*Guestbook both answer GET /api/v1/guests\Z")

    def test_viewers_of_nothing(self) -> None:
        """A route for viewers that names no stream stops the start."""

        @implementer(IContributes)
        class Nameless:
            def contribute(self, context: ContributionContext) -> Contribution:
                return Contribution(routes=[Route("GET", "/api/x/<key>", Audience.VIEWERS, json_response)])

        self.assertIn("names no stream", str(self.assertRaises(ConfigurationError, self.ask, Nameless())))

    def test_failure_stops_the_start(self) -> None:
        """One that raises stops the start in one line."""

        @implementer(IContributes)
        class Broken:
            def contribute(self, context: ContributionContext) -> Contribution:
                raise ZeroDivisionError("on purpose")

        self.assertIn("on purpose", str(self.assertRaises(ConfigurationError, self.ask, Broken())))


class FollowingTests(ContributionsCase):
    """Factories that come and go with new settings."""

    def test_comes_and_goes(self) -> None:
        """One that comes is asked, once, and its service runs; when it goes it takes all of that with it."""
        first, second = Guestbook(), Guestbook("/api/v1/others")
        contributions = self.contributions()
        contributions.follow([FakeApplication(sinks={"guests": first})])
        self.assertEqual((True, 1), (first.service.running, len(contributions.current)))
        both = [FakeApplication(sinks={"guests": first, "guests-2": second})]
        contributions.follow(both)
        contributions.follow(both)
        self.assertEqual((True, 2), (second.service.running, len(contributions.current)))
        contributions.follow([FakeApplication(sinks={"guests": second})])
        self.assertEqual((0, 1), (first.service.running, len(contributions.current)))
        self.assertEqual([second.service], list(self.parent))

    def test_contribution_lingers_for_its_streams(self) -> None:
        """What one brought that no application has any more stays for its streams, behind what its successor brings."""
        old, new = Guestbook(), Guestbook()
        former = FakeApplication(sinks={"guests": old})
        contributions = self.contributions()
        contributions.follow([former])
        now = FakeApplication(sinks={"guests": new})
        contributions.follow([now], lingering=[former])
        self.assertTrue(contributions.have_lingering and old.service.running and new.service.running)
        self.assertEqual([new.respond, old.respond], [each.routes[1].respond for each in contributions.current])
        contributions.follow([now], lingering=[now])
        self.assertFalse(contributions.have_lingering or old.service.running)
        self.assertTrue(new.service.running)

    def test_in_several_applications(self) -> None:
        """One sink in two applications is two factories, and the first one's route is that of both."""
        first, second = Guestbook(), Guestbook()
        contributions = self.contributions()
        contributions.follow([FakeApplication(sinks={"guests": each}) for each in (first, second)])
        self.assertEqual(2, len(contributions.current))
        self.assertTrue(first.service.running and second.service.running)

    def test_refused_contribution_changes_nothing(self) -> None:
        """Where one cannot work beside the others, all stays as it was."""
        contributions = self.contributions(Guestbook())
        contributions.follow([])
        stranger = Guestbook()
        self.assertRaises(ConfigurationError, contributions.follow, [FakeApplication(sinks={"guests": stranger})])
        self.assertEqual((0, 1), (stranger.service.running, len(contributions.current)))

    def test_metrics_go_with_their_factory(self) -> None:
        """A factory's metrics go with it, and those of its successor may have the same names."""

        class Counting(Guestbook):
            def contribute(self, context: ContributionContext) -> Contribution:
                self.total = Counter("rapidrtmp_guests_total", "Guests", registry=context.metrics)
                return super().contribute(context)

        old, new = Counting(), Counting()
        former, now = (FakeApplication(sinks={"guests": each}) for each in (old, new))
        contributions = self.contributions()
        contributions.follow([former])
        old.total.inc()
        contributions.follow([now], lingering=[former])
        self.assertEqual([0.0], [metric.samples[0].value for metric in contributions.metrics()])

    def test_apps_changed_is_passed_on(self) -> None:
        """All are notified of other applications; one that fails is logged, and hinders no other."""
        notified: list[str] = []

        @implementer(IContributes)
        class Follower:
            def __init__(self, name: str) -> None:
                self.name = name

            def contribute(self, context: ContributionContext) -> Contribution:
                return Contribution(apps_changed=self.follow)

            def follow(self) -> None:
                notified.append(self.name)
                if self.name == "a":
                    raise ZeroDivisionError("on purpose")

        contributions = self.contributions(Follower("a"), Follower("b"))
        contributions.follow([])
        contributions.tell_apps_changed()
        self.assertEqual(["a", "b"], notified)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class ServerTests(ServerCase):
    async def test_third_party_is_part_of_the_server(self) -> None:
        """Routes, media, services and the description of a third party are part of the server, beside our own."""
        guestbook = Guestbook()
        settings = loopback_settings(live=open_app())
        plugins = choose_plugins(settings)
        live = replace(plugins.apps["live"], sinks={**plugins.apps["live"].sinks, "guests": guestbook})
        service = self.start(settings, replace(plugins, apps={"live": live}))
        self.assertTrue(guestbook.service.running)
        self.assertEqual((200, b'{"guests": 3}\n'), await self.get(service, guestbook.path))
        self.assertEqual((200, b"live k"), await self.get(service, "/guestbook/live/k"))
        self.assertEqual(404, (await self.get(service, "/live/k/guests.json"))[0])
        encoder = await self.publish(service, b"".join(media(3)))
        while (await self.get(service, "/live/k/guests.json")) != (200, b'["live/k"]\n'):
            pass
        self.assertEqual(404, (await self.get(service, "/live/k/other.json"))[0])
        described = json.loads((await self.get(service, "/api/v1/openapi.json"))[1])["paths"]
        self.assertLessEqual({guestbook.path, "/api/v1/recordings"}, described.keys())
        self.assertIn(b'data-guests="k/guests.json"', (await self.get(service, "/live/k"))[1])
        self.assertIsNotNone(guestbook.context.streams.find(StreamName("live", "k")))
        await service.stopService()
        await encoder.gone
        self.assertFalse(guestbook.service.running)


@implementer(IContributes, IContributesCommands)
class Greeting:
    """A contribution with a command."""

    def contribute(self, context: ContributionContext) -> Contribution:
        return Contribution()

    def commands(self) -> Sequence[Command]:
        def add_arguments(parser: ArgumentParser) -> None:
            parser.add_argument("status", type=int)

        def run(chosen: Namespace) -> int:
            if chosen.status > 9:
                raise ConfigurationError("too much")
            return int(chosen.status)

        return [Command("greet", "return a status", add_arguments, run)]


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(factories, "_entries", lambda _kind: {"greeting": None})
        self.patch(factories, "_make", lambda _kind, _name, _defaults: Greeting())

    def test_command_of_a_plugin(self) -> None:
        """A command of a plugin is one of the program, with its arguments, its status and its errors in one line."""
        self.assertEqual(7, cli.main(["greet", "7"]))
        self.assertEqual(1, cli.main(["greet", "10"]))
