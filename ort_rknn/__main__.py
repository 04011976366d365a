"""``python -m ort_rknn program.py args`` and ``python -m ort_rknn -m module args``: run a program with the shim.

The program sees what it would see without us: its own ``sys.argv``, ``sys.path[0]`` and ``__main__``.
"""

from __future__ import annotations

import builtins
import runpy
import sys
from pathlib import Path
from types import ModuleType

from ort_rknn.api.install_shim import install

__all__ = ["main"]

USAGE = """\
usage: python -m ort_rknn program.py [args ...]
       python -m ort_rknn -m module [args ...]

Runs a program that imports onnxruntime with ort_rknn in its place. What runs where is said by environment variables:
  ORT_RKNN_PROMOTE_CPU=1   programs that ask for the CPU only get the NPU first
  ORT_RKNN_DEVICE          auto, npu, simulator or cpu
  ORT_RKNN_TARGET          the SoC to compile for, e.g. rk3588
"""


def main(arguments: list[str]) -> None:
    """Run the program that ``arguments`` name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "-m":
        if len(arguments) < 2:
            raise SystemExit("Argument expected for the -m option")
        install()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    program = Path(arguments[0])
    if not program.exists():
        raise SystemExit(f"{sys.executable}: can't open file {str(program.absolute())!r}: no such file")
    install()
    sys.argv = arguments
    if not program.is_file():
        runpy.run_path(str(program), run_name="__main__")  # a folder with a __main__.py
        return
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(program.resolve().parent)  # "python -m" has put the working directory there
    _run_file(str(program.absolute()))


def _run_file(path: str) -> None:
    """Run a script as the interpreter does: its ``__main__`` stays after its last line, for threads and exit hooks."""
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    main = ModuleType("__main__")
    vars(main).update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    exec(code, vars(main))


if __name__ == "__main__":
    main(sys.argv[1:])
