"""The decorator of this package's dataclasses, which costs less at start.

:func:`dataclasses.dataclass` compiles six methods for a frozen class. For a hundred classes that is a fifth of the time
in which the command starts. Here it compiles the constructor only: all classes share the functions below for equality,
hash and text. ``frozen`` is held by the type checker. Nothing refuses an assignment while the program runs, so that the
constructor assigns directly, which takes half the time.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, slots=False, weakref_slot=False):
        """As :func:`dataclasses.dataclass`, but for what the module says."""

        def decorate(cls):
            made = dataclasses.dataclass(cls, eq=False, repr=False, slots=slots, weakref_slot=weakref_slot)
            if "__repr__" not in vars(made):
                made.__repr__ = text
            if eq:
                made._compared = compared(made)
                made.__eq__ = equal
                made.__hash__ = hash_value if frozen else None
            return made

        return decorate if cls is None else decorate(cls)


def compared(cls: Any) -> Any:
    """The function that returns the values that make two objects of a class equal."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    return attrgetter(*names or ["__class__"])


def equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = self._compared
    return values(self) == values(other)


def hash_value(self: Any) -> int:
    return hash(self._compared(self))


@recursive_repr()
def text(self: Any) -> str:
    values = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({', '.join(values)})"


__all__ = ["dataclass"]
