"""What the factories of plugins make when the server starts."""

from __future__ import annotations

from typing import Any

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.support.text import class_name, reason_of

__all__ = ["create"]


def create(label: str, factory: Any, context: object) -> Any:
    """
    What a factory makes when the server starts.

    :param label: begins the message.
    :raises ConfigurationError: the factory raised; with its class and the reason in one line.
    """
    try:
        return factory.create(context)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{label}: {class_name(factory)} failed: {reason_of(error)}") from error
