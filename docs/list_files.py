"""Writes the README's list of files: every source file with the first sentence of its own docstring.

python docs/list_files.py           rewrites README.md
python docs/list_files.py --check   exit code 1 when README.md is out of date
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- files: made by `make readme` -->", "<!-- end of files -->"

ROOMS = (
    ("converters/ort_rknn_converters", "ONNX in, compiled model out. Imports nothing of ours."),
    ("ort_rknn", "Sessions, engine, devices. Imports the converters, on first use."),
    ("conformance/ort_rknn_conformance", "Proof against CPU onnxruntime. Imports both."),
    ("examples", "Programs to read and run."),
    ("benchmarks", "What it costs, measured."),
    ("docs", "What does not fit here."),
)
# Files that cannot say it themselves.
OTHERS = {
    "tests": "mirrors the rooms; at its top the tests of the whole house",
    "Makefile": "`make demo`, `make test` and the others",
    ".ci/run": "what a fresh machine runs",
    "pyproject.toml": "packaging and the settings of every tool",
    "CONTRIBUTING.md": "how to add a pass, an op rule, a device, a conformance case",
}
SUFFIXES = {".py", ".c", ".h", ".md", ".onnx", ".txt"}


def first_sentence(path: Path) -> str:
    """What a file says of itself in its first sentence, without the full stop; empty when it says nothing."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.suffix != ".onnx" else ""
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix in {".c", ".h"}:
        comment = re.match(r"\s*(?:/\*+(.*?)\*/|((?://[^\n]*\n)+))", text, re.DOTALL)
        said = re.sub(r"^[ \t]*(?:\*|//)? ?", "", (comment.group(1) or comment.group(2)), flags=re.M) if comment else ""
    elif path.name == "CMakeLists.txt":
        said = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    elif path.suffix == ".md":
        said = text.lstrip("# ").partition("\n")[0]
    else:
        said = "the trained network" if path.suffix == ".onnx" else ""
    paragraph = " ".join(said.strip().split("\n\n")[0].split())
    paragraph = re.sub(r":\w+:`~?([^`]*)`", lambda role: f"`{role[1].rpartition('.')[2]}`", paragraph).replace(
        "``", "`"
    )
    sentence = re.split(r"(?<=[^.]{2}[.!?])\s+(?=[A-Z`\"])", paragraph)[0]
    return sentence.rstrip(".")


def lines() -> Iterator[str]:
    """The list, room by room."""
    for folder, title in ROOMS:
        files = [
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
        ]
        if not files:
            continue
        yield f"**{folder}**: {title}"
        yield ""
        for path in sorted(files, key=lambda path: (len(path.relative_to(ROOT / folder).parts) > 1, path)):
            name = path.relative_to(ROOT / folder)
            said = first_sentence(path)
            if path.name == "__init__.py" and not said:
                continue
            yield f"- `{name}`: {said}" if said else f"- `{name}`"
        yield ""
    yield "**The rest**"
    yield ""
    for name, said in OTHERS.items():
        yield f"- `{name}`: {said}"


def rewritten(readme: str) -> str:
    """The README with the list as it should be."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n" + "\n".join(lines()) + f"\n{END}{after}"


def main() -> int:
    """Rewrite the README, or check it."""
    readme = ROOT / "README.md"
    now = readme.read_text(encoding="utf-8")
    new = rewritten(now)
    if "--check" in sys.argv:
        return int(new != now)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
