"""Three rooms, one direction; inside a room, folders import only folders before them. Lazy imports count, too."""

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

# Room -> its folders in the order of the data's way: each imports only folders that stand before it. The modules of the
# room itself are split: "." are the values that everybody may know; FACES stand on top of all.
FOLDERS = {
    "ort_rknn_converters": (
        *("util", ".", "onnx_file", "graph", "op_support.families", "op_support"),
        *(
            "passes",
            "passes.simplify",
            "passes.expand",
            "passes.rewrite",
            "partition",
            "lower",
            "rknn_format",
            "numerics",
        ),
        *("toolkit.worker", "toolkit.setup", "toolkit", "quantize", "compile", "compiled", "pipeline", "cache", "cli"),
    ),
    "ort_rknn": (
        *("ort_private", ".", "accounting", "devices", "devices.rknnrt", "engine.sharing", "engine.lanes", "engine"),
        *("options", "ort_types", "sessions", "opening", "remote", "api", "bench", "examples", "top", "serving", "ray"),
        "pyinstaller",
    ),
    "ort_rknn_conformance": (
        ".",
        "flows",
        "sources.field",
        "sources",
        "run",
        "diagnose",
        "report",
        "doctor",
        "hardware.contract",
        "hardware",
    ),
}
FACES = {
    *("ort_rknn_converters", "ort_rknn", "ort_rknn.cli", "ort_rknn.__main__", "ort_rknn.backend"),
    *("ort_rknn_conformance", "ort_rknn_conformance.cli"),
}
MOST_MODULES = 14
"""In one folder; more is a list that nobody reads."""

# What of the converters the runtime may import at once: a module each, which imports nothing of ours.
AT_ONCE = {f"ort_rknn_converters.util.{name}" for name in ("foreign_text", "frozen", "log", "own_files", "plain_data")}


OTHER_DISTRIBUTION = ROOMS["ort_rknn"] / "native" / "ep" / "package"
"""onnxruntime-ep-rknn: it imports nothing of ours, and lies where its C sources are."""


def _modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of ours."""
    found = {}
    for room, folder in ROOMS.items():
        for path in folder.rglob("*.py"):
            if OTHER_DISTRIBUTION in path.parents:
                continue
            parts = (room, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file imports; ``from a import b`` names ``a.b`` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


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


def _folder(module: str) -> str:
    """The folder a module stands in, as FOLDERS names it."""
    _, _, rest = module.partition(".")
    inside = rest if MODULES[module].name == "__init__.py" else rest.rpartition(".")[0]
    return inside or "."


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_room_imports_a_higher_one(module: str) -> None:
    allowed = {
        "ort_rknn_converters": {"ort_rknn_converters"},
        "ort_rknn": {"ort_rknn_converters", "ort_rknn"},
        "ort_rknn_conformance": set(ROOMS),
    }[module.partition(".")[0]]
    used = {name.partition(".")[0] for name in _imports(MODULES[module])} & set(ROOMS)
    assert used <= allowed, f"{module} imports {', '.join(used - allowed)}: the direction is " + " <- ".join(ROOMS)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.partition(".")[0] == "ort_rknn"))
def test_the_runtime_imports_the_converters_lazily(module: str) -> None:
    imported = {name for name in _at_import_time(MODULES[module]) if name.partition(".")[0] == "ort_rknn_converters"}
    assert not imported - AT_ONCE, f"{module} imports {imported - AT_ONCE} at import time: do it inside a function"


@pytest.mark.parametrize("module", sorted(set(MODULES) - FACES))
def test_folders_import_only_folders_before_them(module: str) -> None:
    room = module.partition(".")[0]
    order = FOLDERS[room]
    here = order.index(_folder(module))
    up = []
    for name in set(_imports(MODULES[module])):
        if name not in MODULES or name.partition(".")[0] != room or name == room:
            continue
        if name in FACES or order.index(_folder(name)) > here:
            up.append(name)
    assert not up, f"{module} imports {', '.join(sorted(up))}, which stands after it"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_circles(room: str) -> None:
    arrows = {
        module: {name for name in _imports(path) if name in MODULES and name != room and name != module}
        for module, path in MODULES.items()
        if module.partition(".")[0] == room and module != room
    }
    left = dict(arrows)
    while left:
        free = [module for module, names in left.items() if not names & left.keys()]
        assert free, f"modules that import each other: {', '.join(sorted(left))}"
        for module in free:
            del left[module]


def test_every_folder_has_its_place_and_is_not_full() -> None:
    for room, order in FOLDERS.items():
        held: dict[str, list[str]] = {}
        for module, path in MODULES.items():
            if module.partition(".")[0] == room and path.name != "__init__.py":
                held.setdefault(_folder(module), []).append(module)
        assert set(held) == set(order), f"{room}: FOLDERS must name each folder once"
        full = {folder: len(modules) for folder, modules in held.items() if len(modules) > MOST_MODULES}
        assert not full, f"{room}: more than {MOST_MODULES} modules in {full}"
