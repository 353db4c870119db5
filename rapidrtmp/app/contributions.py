"""What plugins bring to a server besides what they are chosen for, as those who bring it come and go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from twisted.application.service import MultiService
from twisted.logger import Logger

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Audience, Contribution, ContributionContext, IApplication, IContributes
from rapidrtmp.support.text import class_name, reason_of

__all__ = ["Contributions"]


class Contributions:
    """
    What contributors bring, and those of the sink factories of the applications that are some as well.

    Their services are started with ``parent``, or when they come.

    :param contributors: those that are there in any case.
    :param context: what they are given; a factory has a registry of its own for metrics, which goes with it.
    :param parent: becomes that of their services.
    :ivar current: all there is now; where two bring the same, the first one's holds.
    :ivar have_lingering: whether there is something among it of a factory that no application has.
    """

    _log = Logger()

    def __init__(
        self, contributors: Iterable[IContributes], context: ContributionContext, parent: MultiService
    ) -> None:
        self._contributors = list(contributors)
        self._context = context
        self._parent = parent
        self._asked: dict[IContributes, Contribution] = {}
        self._registries: dict[IContributes, CollectorRegistry] = {}
        self.have_lingering = False
        self.current: Sequence[Contribution] = ()

    def follow(self, apps: Iterable[IApplication], lingering: Iterable[IApplication] = ()) -> None:
        """
        Ask those that are new, and part with those that are gone.

        :param apps: those that there are.
        :param lingering: those that made the streams there are; what their factories brought stays until these end.
        :raises ConfigurationError: one cannot work, or two answer one and the same request; then nothing has changed.
        """
        wanted = dict.fromkeys([*self._contributors, *_contributing(apps)])
        registries: dict[IContributes, CollectorRegistry] = {}
        asked = {each: self._asked.get(each) or self._ask(each, registries) for each in wanted}
        self._check_routes(asked)
        lingered = [each for each in _contributing(lingering) if each in self._asked and each not in asked]
        asked |= {each: self._asked[each] for each in lingered}
        self.have_lingering = bool(lingered)
        gone = [each for each in self._asked if each not in asked]
        come = [each for each in asked if each not in self._asked]
        former, self._asked = self._asked, asked
        self._registries = {
            each: registry for each, registry in (self._registries | registries).items() if each in asked
        }
        self.current = tuple(asked.values())
        for service in (each for contributor in come for each in asked[contributor].services):
            service.setServiceParent(self._parent)
        for service in (each for contributor in gone for each in reversed(former[contributor].services)):
            service.disownServiceParent()

    def tell_apps_changed(self) -> None:
        """Say to all of them that the applications are others."""
        for contributor, contribution in self._asked.items():
            try:
                contribution.apps_changed()
            except Exception:
                name = class_name(contributor)
                self._log.failure("{contributor} cannot follow other applications", contributor=name)

    def metrics(self) -> Iterator[Metric]:
        """Those of factories, for a scrape; where two have one of the same name, the first one's."""
        seen: set[str] = set()
        for contributor in self._asked:
            for metric in self._registries[contributor].collect() if contributor in self._registries else ():
                if metric.name not in seen:
                    yield metric
                seen.add(metric.name)

    def _check_routes(self, contributions: Mapping[IContributes, Contribution]) -> None:
        known: dict[tuple[str, str], IContributes] = {}
        for contributor, contribution in contributions.items():
            for route in contribution.routes:
                if route.audience is Audience.VIEWERS and not all(part in route.rule for part in ("<app>", "<key>")):
                    raise ConfigurationError(
                        f"{class_name(contributor)}: {route.rule} is for viewers and names no stream"
                    )
                other = known.setdefault((route.method, route.rule), contributor)
                if other is not contributor and not self._is_one_plugin(other, contributor):
                    raise ConfigurationError(
                        f"{class_name(other)} and {class_name(contributor)} both answer {route.method} {route.rule}"
                    )

    def _is_one_plugin(self, *two: IContributes) -> bool:
        """Whether these are one sink's factories in two applications."""
        return len(set(map(type, two))) == 1 and not any(each in self._contributors for each in two)

    def _ask(self, contributor: IContributes, registries: dict[IContributes, CollectorRegistry]) -> Contribution:
        context = self._context
        if contributor not in self._contributors:
            registries[contributor] = CollectorRegistry()
            context = replace(context, metrics=registries[contributor])
        try:
            contribution: Contribution = contributor.contribute(context)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"{class_name(contributor)} failed: {reason_of(error)}") from error
        return contribution


def _contributing(apps: Iterable[IApplication]) -> Iterator[IContributes]:
    """The sink factories of applications that bring something."""
    return (factory for app in apps for factory in app.sinks.values() if IContributes.providedBy(factory))
