"""Who may use the management API with a token: the authenticators of the server's own ``auth`` that can decide it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rapidrtmp.app.plugins import authenticator_keys
from rapidrtmp.auth.any_of import AnyOfAuthenticator
from rapidrtmp.discovery import make_authenticator_factory
from rapidrtmp.interfaces import AuthenticatorContext, IManageAuthenticatorFactory
from rapidrtmp.settings.model import Settings
from rapidrtmp.support.factories import create

__all__ = ["Managers"]


class Managers:
    """
    Makes what decides, again where the settings have changed.

    An application's own ``auth`` is never among it: whom an application believes cannot open the whole server.

    :ivar judge: provides ``IManageAuthenticator``; ``None`` if no authenticator can decide.
    :raises ConfigurationError: an authenticator can never work.
    """

    def __init__(self, settings: Settings, context: AuthenticatorContext) -> None:
        self._context = context
        self._keys: Sequence[tuple[str, Mapping[str, str]]] = ()
        self.judge: AnyOfAuthenticator | None = None
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Go by other settings. :raises ConfigurationError: they can never work; then nothing has changed."""
        keys = authenticator_keys(settings, settings.server.auth)
        if keys == self._keys:
            return
        factories = [make_authenticator_factory(*key) for key in keys]
        made = [
            create("authenticator of server.auth", factory, self._context)
            for factory in factories
            if IManageAuthenticatorFactory.providedBy(factory)
        ]
        self.judge = AnyOfAuthenticator(made, self._context.log) if made else None
        self._keys = keys
