"""
Frozen dataclasses that are made for every frame and every request, at half the price.

What :mod:`dataclasses` writes for a frozen class stores each field by name through ``object.__setattr__``, and that
takes twice as long as to hand it to the descriptor of its slot. Nothing else of the class is another.
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
    namespace: dict[str, Any] = {f"set_{each.name}": cls.__dict__[each.name].__set__ for each in every}
    parameters = []
    for each in every:
        assert each.init and not each.kw_only and each.default_factory is MISSING, each
        namespace[f"default_{each.name}"] = each.default
        parameters.append(each.name if each.default is MISSING else f"{each.name}=default_{each.name}")
    body = "; ".join(f"set_{each.name}(self, {each.name})" for each in every)
    exec(f"def __init__(self, {', '.join(parameters)}): {body}", namespace)
    init, before = namespace["__init__"], cls.__init__
    init.__annotations__, init.__qualname__ = before.__annotations__, before.__qualname__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls
