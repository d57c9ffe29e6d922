"""The dataclass decorator of the package behaves as the standard one does, but for assignments."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import analyzer
from analyzer.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A frozen class."""

    x: int
    names: tuple[str, ...] = ()
    hidden: str = dataclasses.field(default="", repr=False, compare=False)


@dataclass(slots=True)
class Counter:
    """A class whose objects change."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Empty:
    """A class without fields."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Identity:
    """A class whose objects equal none but themselves."""

    x: int


def test_equality_and_hash_follow_the_compared_fields() -> None:
    point = Point(1, ("a",), "x")
    assert point == Point(1, ("a",), "y")
    assert hash(point) == hash(Point(1, ("a",), "y"))
    assert point != Point(2, ("a",))
    assert point != (1, ("a",))
    assert Empty() == Empty()
    assert len({Empty(), Empty()}) == 1
    assert Identity(1) != Identity(1)
    assert Counter(1) == Counter(1)


def test_objects_that_change_have_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Counter())


def test_text_is_that_of_the_standard_decorator() -> None:
    assert repr(Point(1, ("a",), "secret")) == "Point(x=1, names=('a',))"
    assert repr(Empty()) == "Empty()"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(copied: Any) -> None:
    assert copied(Point(1, ("a",))) == Point(1, ("a",))


def test_the_standard_functions_apply() -> None:
    assert dataclasses.replace(Point(1), x=2) == Point(2)
    assert dataclasses.asdict(Point(1)) == {"x": 1, "names": (), "hidden": ""}
    assert dataclasses.is_dataclass(Point)
    assert not hasattr(Point(1), "__dict__")


def test_all_dataclasses_of_the_package_use_this_decorator() -> None:
    """But for a class with an order, which this decorator does not make."""
    root = Path(analyzer.__file__).parent
    standard = re.compile(r"from dataclasses import .*\bdataclass\b|^@dataclasses\.dataclass", re.MULTILINE)
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if standard.search(path.read_text())}
    assert found == {"dataclass.py", "export/diff.py"}
