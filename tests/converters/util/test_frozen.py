"""``@frozen`` gives what ``dataclass(frozen=True)`` gives, and is the one way to make a value."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass
from dataclasses import replace as standard_replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ort_rknn_converters.util.frozen import frozen, replace, rows_of

ROOT = Path(__file__).resolve().parents[3]


@frozen
class Ours:
    """A value."""

    kind: ClassVar[str] = "value"
    name: str
    size: int = 1
    rows: Mapping[str, Any] = field(default_factory=dict, compare=False)
    secret: str = field(default="s", repr=False)


@dataclass(frozen=True)
class Theirs:
    """The same, by the standard library."""

    kind: ClassVar[str] = "value"
    name: str
    size: int = 1
    rows: Mapping[str, Any] = field(default_factory=dict, compare=False)
    secret: str = field(default="s", repr=False)


@frozen
class Checked:
    """A value with methods of its own."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("too small")
        object.__setattr__(self, "size", int(self.size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checked)

    def __repr__(self) -> str:
        return "checked"


@pytest.mark.parametrize("given", [("a",), ("a", 2), ("a", 2, {"x": 1}), ("a", 2, {"x": 1}, "t")])
def test_made_by_position_or_name_it_is_as_the_standard_librarys(given: tuple[Any, ...]) -> None:
    ours, theirs = Ours(*given), Theirs(*given)
    named = Ours(**dict(zip(("name", "size", "rows", "secret"), given, strict=False)))
    assert ours == named
    assert asdict(ours) == asdict(named) == asdict(theirs)
    assert list(vars(ours)) == list(vars(theirs))
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert hash(ours) == hash(theirs) == hash(named)
    assert [row.name for row in fields(ours)] == [row.name for row in fields(theirs)]
    assert is_dataclass(ours)
    assert replace(ours, size=9) == standard_replace(ours, size=9) == Ours(*given[:1], 9, *given[2:])
    assert pickle.loads(pickle.dumps(ours)) == deepcopy(ours) == ours


def test_values_differ_by_what_is_compared_and_by_their_class() -> None:
    assert Ours("a") == Ours("a", rows={"x": 1})
    assert Ours("a") != Ours("b")
    assert Ours("a") != Theirs("a")
    assert Ours("a").rows is not Ours("a").rows


def test_it_cannot_be_changed() -> None:
    value = Ours("a")
    with pytest.raises(FrozenInstanceError, match="name"):
        value.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="name"):
        del value.name
    with pytest.raises(FrozenInstanceError, match="other"):
        value.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "named", "what"),
    [
        ((), {}, "missing the argument 'name'"),
        (("a",), {"colour": 1}, "unexpected keyword argument 'colour'"),
        ((), {"colour": 1}, "unexpected keyword argument 'colour'"),
        (("a",), {"name": "b"}, "multiple values for argument 'name'"),
        (("a", 1, {}, "s", 5), {}, "takes 4 arguments, not 5"),
    ],
)
def test_wrong_arguments_are_told(given: tuple[Any, ...], named: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match=what):
        Ours(*given, **named)


def test_methods_of_the_class_itself_stay() -> None:
    assert repr(Checked(1)) == "checked"
    assert Checked(1) == Checked(2)
    assert hash(Checked(1)) == hash(Checked(1))
    assert type(Checked(True).size) is int
    with pytest.raises(ValueError, match="too small"):
        Checked(-1)


def test_help_shows_the_fields() -> None:
    ours, theirs = inspect.signature(Ours).parameters, inspect.signature(Theirs).parameters
    assert list(ours) == list(theirs)
    assert [row.annotation for row in ours.values()] == [row.annotation for row in theirs.values()]
    assert [row.default for row in ours.values()] == [inspect.Parameter.empty, 1, {}, "s"]


@frozen
class Longer(Ours):
    """A value with the fields of another, one of them with another default."""

    size: int = 5
    colour: str = "red"


@dataclass(frozen=True)
class TheirLonger(Theirs):
    """The same, by the standard library."""

    size: int = 5
    colour: str = "red"


class Kept(Longer):
    """A class of a value that has no fields of its own."""


def test_fields_of_the_bases_come_first() -> None:
    for made in (Longer("a"), Kept("a")):
        assert asdict(made) == asdict(TheirLonger("a"))
        assert [row.name for row in fields(made)] == [row.name for row in fields(TheirLonger)]
    assert Longer.__match_args__ == TheirLonger.__match_args__
    assert replace(Kept("a"), colour="blue") == Kept("a", colour="blue")
    assert [Ours("a").size, Longer.size, Ours.kind] == [1, 5, "value"]
    assert not hasattr(Longer, "rows"), "no default that instances could share"


def test_the_rows_are_known_without_the_standard_librarys_record() -> None:
    rows = rows_of(Longer)
    assert list(rows) == ["name", "size", "rows", "secret", "colour"]
    assert (rows["size"], rows["colour"], rows["secret"].default) == (5, "red", "s")


def test_a_copy_is_checked_like_any_other() -> None:
    with pytest.raises(ValueError, match="too small"):
        replace(Checked(1), size=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        replace(Checked(1), colour="red")


def test_a_default_that_can_be_changed_is_refused() -> None:
    with pytest.raises(ValueError, match="rows: list can be changed"):

        @frozen
        class Shared:
            rows: list[int] = []  # noqa: RUF012 - what is refused


@pytest.mark.parametrize("folder", ["ort_rknn", "converters", "conformance"])
def test_it_is_the_one_way_to_make_a_value(folder: str) -> None:
    found = [path for path in (ROOT / folder).rglob("*.py") if "@dataclass(frozen=True)" in path.read_text("utf-8")]
    assert not found, f"@frozen makes values: {', '.join(map(str, found))}"
