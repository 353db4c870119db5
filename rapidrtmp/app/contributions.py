"""What plugins bring to a server besides what they are chosen for, asked of each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Audience, Contribution, ContributionContext, IApplication, IContributes
from rapidrtmp.support.text import class_name, reason_of

__all__ = ["ask_contributors"]


def ask_contributors(
    contributors: Iterable[IContributes], apps: Mapping[str, IApplication], context: ContributionContext
) -> Sequence[Contribution]:
    """
    What contributors bring, and those of the sink factories of the applications that are some as well.

    :raises ConfigurationError: one cannot work, or two answer one and the same request.
    """
    factories = dict.fromkeys(factory for app in apps.values() for factory in app.sinks.values())
    asked = [*contributors, *(each for each in factories if IContributes.providedBy(each))]
    contributions = [_ask(each, context) for each in asked]
    known: dict[tuple[str, str], IContributes] = {}
    for contributor, contribution in zip(asked, contributions, strict=True):
        for route in contribution.routes:
            if route.audience is Audience.VIEWERS and not all(part in route.rule for part in ("<app>", "<key>")):
                raise ConfigurationError(f"{class_name(contributor)}: {route.rule} is for viewers and names no stream")
            other = known.setdefault((route.method, route.rule), contributor)
            if other is not contributor:
                raise ConfigurationError(
                    f"{class_name(other)} and {class_name(contributor)} both answer {route.method} {route.rule}"
                )
    return contributions


def _ask(contributor: IContributes, context: ContributionContext) -> Contribution:
    try:
        contribution: Contribution = contributor.contribute(context)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{class_name(contributor)} failed: {reason_of(error)}") from error
    return contribution
