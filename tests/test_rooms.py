"""Three rooms, one direction; and inside a room, floors. Imports are read from the source, lazy ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "ort_rknn_converters": ROOT / "converters" / "ort_rknn_converters",
    "ort_rknn": ROOT / "ort_rknn",
    "ort_rknn_conformance": ROOT / "conformance" / "ort_rknn_conformance",
}

# What of the converters the runtime may import at once: a page each, which imports nothing of ours.
AT_ONCE = {"ort_rknn_converters.util.frozen", "ort_rknn_converters.util.log"}

# floor -> the floors above it, which nothing on it may reach, directly or through another file.
FLOORS = {
    "ort_rknn.devices": ("ort_rknn.program", "ort_rknn.engine", "ort_rknn.api.session"),
    "ort_rknn.program": ("ort_rknn.engine", "ort_rknn.api.session"),
    "ort_rknn.engine": ("ort_rknn.api.session",),
    "ort_rknn.api.session": ("ort_rknn.cli", "ort_rknn.__main__"),
    "ort_rknn_converters.op_support.decide": (
        "ort_rknn_converters.partition.partition",
        "ort_rknn_converters.pipeline.convert",
    ),
    "ort_rknn_converters.passes": ("ort_rknn_converters.partition.partition", "ort_rknn_converters.pipeline.convert"),
    "ort_rknn_converters.toolkit": ("ort_rknn_converters.partition.partition", "ort_rknn_converters.pipeline.convert"),
    "ort_rknn_converters.compiled.model": ("ort_rknn_converters.pipeline.convert", "ort_rknn_converters.cache.store"),
    "ort_rknn_converters.pipeline.convert": ("ort_rknn_converters.cli",),
    "ort_rknn_conformance.sources": ("ort_rknn_conformance.run.runner", "ort_rknn_conformance.report"),
    "ort_rknn_conformance.flows": ("ort_rknn_conformance.run.run_case", "ort_rknn_conformance.run.runner"),
    "ort_rknn_conformance.run.run_case": ("ort_rknn_conformance.run.runner", "ort_rknn_conformance.report"),
    "ort_rknn_conformance.report": ("ort_rknn_conformance.cli",),
}


def _modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of ours."""
    found = {}
    for room, folder in ROOMS.items():
        for path in folder.rglob("*.py"):
            parts = (room, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every import statement with the module it names; ``from a import b`` names ``a.b`` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                # a folder without Python in it (the native library's) is a name of its own too
                folder = ROOMS.get(node.module, ROOT / "nowhere") / alias.name
                yield node, full if full in MODULES or folder.is_dir() else node.module


def _at_import_time(path: Path) -> set[str]:
    """Modules imported as soon as the file is: not in functions, not under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            lazy.update(ast.walk(node))
    eager = [node for node in ast.walk(tree) if node not in lazy]
    return {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in eager
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_room_imports_a_higher_one(module: str) -> None:
    allowed = {
        "ort_rknn_converters": {"ort_rknn_converters"},
        "ort_rknn": {"ort_rknn_converters", "ort_rknn"},
        "ort_rknn_conformance": set(ROOMS),
    }[module.partition(".")[0]]
    used = {name.partition(".")[0] for _, name in _imports(MODULES[module])} & set(ROOMS)
    assert used <= allowed, f"{module} imports {', '.join(used - allowed)}: the direction is " + " <- ".join(ROOMS)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if _inside(name, "ort_rknn")))
def test_the_runtime_imports_the_converters_lazily(module: str) -> None:
    eager = {name for name in _at_import_time(MODULES[module]) if _inside(name, "ort_rknn_converters")} - AT_ONCE
    assert not eager, f"{module} imports {', '.join(sorted(eager))} at import time: do it inside a function"


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_no_floor_reaches_a_higher_one(floor: str) -> None:
    for start in [name for name in MODULES if _inside(name, floor)]:
        way = {start: start}
        todo = [start]
        while todo:
            here = todo.pop()
            for _, name in _imports(MODULES[here]):
                # The bare package is loaded whatever is imported, and its own imports wait for first use.
                if name in MODULES and name not in way and name not in ROOMS:
                    way[name] = f"{way[here]} -> {name}"
                    todo.append(name)
        for above in FLOORS[floor]:
            reached = [path for name, path in way.items() if _inside(name, above)]
            assert not reached, f"{floor} stands below {above}, but: {reached[0]}"


def test_every_floor_exists() -> None:
    named = {*FLOORS, *(above for floors in FLOORS.values() for above in floors)}
    assert {name for name in named if name not in MODULES} == set(), "a floor was renamed: update FLOORS"
