"""
Frozen dataclasses that are made for every frame and every request, at a third of the price.

What :mod:`dataclasses` writes for a frozen class stores each field by name through ``object.__setattr__``. Here a new
object is open while it is filled: for that long its class is another one, with the same slots, that lets itself be
written to. Nothing else of the class is another.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

__all__ = ["filled_by_slot"]

T = TypeVar("T")


def filled_by_slot(cls: type[T]) -> type[T]:
    """
    Give a frozen dataclass with slots an ``__init__`` that fills them directly. Decorates the decorated class.

    :param cls: its fields are all parameters, by position or by name, and their defaults are values.
    """
    every: tuple[Field[Any], ...] = fields(cls)  # type: ignore[arg-type]
    names = [each.name for each in every]
    open_class = type(f"Open{cls.__name__}", (), {"__slots__": names})
    namespace: dict[str, Any] = {"open": object.__setattr__, "open_class": open_class, "sealed_class": cls}
    parameters = []
    for each in every:
        assert each.init and not each.kw_only and each.default_factory is MISSING, each
        namespace[f"default_{each.name}"] = each.default
        parameters.append(each.name if each.default is MISSING else f"{each.name}=default_{each.name}")
    lines = [
        f"def __init__(self, {', '.join(parameters)}):",
        "open(self, '__class__', open_class)",
        *(f"self.{name} = {name}" for name in names),
        "self.__class__ = sealed_class",
    ]
    exec("\n    ".join(lines), namespace)
    init, before = namespace["__init__"], cls.__init__
    init.__annotations__, init.__qualname__ = before.__annotations__, before.__qualname__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls
