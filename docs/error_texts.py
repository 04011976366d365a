"""Reads every text of an error or warning from the sources of the three packages, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ort_rknn", "converters/ort_rknn_converters", "conformance/ort_rknn_conformance")
HOLE = "…"
"""What stands for a value."""

_SHORTEST = 12
"""Characters of text below which it is no sentence."""


@dataclass(frozen=True)
class ErrorText:
    """A text in the sources.

    Attributes:
        text: With ``…`` for values.
        kind: Class that is raised, ``onnxruntime's Fail``, or ``warning``.
        module: Dotted name of the module.
    """

    text: str
    kind: str
    module: str


def every_text() -> list[ErrorText]:
    """Every text once, by module and place."""
    found: dict[tuple[str, str], ErrorText] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "native" in path.relative_to(ROOT / package).parts:
                continue
            module = ".".join(path.relative_to((ROOT / package).parent).with_suffix("").parts)
            for one in _texts(path, module):
                found.setdefault((one.text, one.kind), one)
    return list(found.values())


def _texts(path: Path, module: str) -> Iterator[ErrorText]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call, kind = node.exc, _name(node.exc.func)
        elif isinstance(node, ast.Call) and _name(node.func) in ("ort_error", "warning", "warn_once", "say_once"):
            call, kind = node, _name(node.func)
        else:
            continue
        arguments = list(call.args)
        if kind in ("ort_error", "say_once"):
            first = arguments.pop(0) if arguments else None
            kind = f"onnxruntime's {_written(first, constants)}" if kind == "ort_error" else "warning"
        elif kind == "warn_once":
            kind = "warning"
        if not arguments or kind in ("NotImplementedError", "AttributeError", "KeyError", "StopIteration"):
            continue
        text = " ".join(_written(arguments[0], constants).replace("%s", HOLE).replace("%d", HOLE).split())
        if kind == "_Refused" or (len(text.replace(HOLE, "")) >= _SHORTEST and kind[:1] != "_"):
            yield ErrorText(text, kind.replace("_Refused", "ort-rknn bench"), module)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _written(node: ast.expr | None, constants: Mapping[str, ast.expr]) -> str:
    """The text an expression makes, as far as it stands in the source."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else HOLE
    if isinstance(node, ast.JoinedStr):
        return "".join(_written(part, constants) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _written(node.left, constants) + _written(node.right, constants)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id in constants:
        return _written(node.value, constants)
    if isinstance(node, ast.Name) and isinstance(constants.get(node.id), (ast.Constant, ast.JoinedStr, ast.BinOp)):
        return _written(constants[node.id], constants)
    return HOLE


if __name__ == "__main__":
    from collections import Counter

    texts = every_text()
    print(len(texts), Counter(one.kind for one in texts))
    for one in texts:
        print(one.module.partition(".")[2], "|", one.kind, "|", one.text)
