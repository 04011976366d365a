"""Writes docs/options.md from the table of provider options, which is the one place where they are described.

python docs/list_options.py           rewrites it
python docs/list_options.py --check   exit code 1 when it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ort_rknn.options.parsers import to_text
from ort_rknn.options.table import OPTIONS

PAGE = Path(__file__).with_name("options.md")
ENVIRONMENT = {
    "ORT_RKNN_TOOLKIT_PYTHON": "the Python that runs rknn-toolkit2, in the place of any other",
    "ORT_RKNN_PROMOTE_CPU": "`1`: the NPU goes first where a program asks for `CPUExecutionProvider` alone",
    "ORT_RKNN_CACHE_DIR": "folder of the compiled models and of the toolkit's private environment",
    "ORT_RKNN_CACHE_LIMIT": "what compiled models may take, e.g. 2G; the least recently used go; default 10 GiB",
    "ORT_RKNN_CONFIG": "the configuration file",
    "ORT_RKNN_SWITCH_INTERVAL_MS": "Python's switch interval while a submission waits for room; default 0.5, "
    "measured, and 0.1 while callbacks pile up; 0 leaves it alone",
    "ORT_RKNN_ARBITER_KEY": 'key of the semaphores of `arbiter="machine"`; default 0x524b4e50',
    "ORT_RKNN_NATIVE_LIBRARY": "the native lanes' library; `off`: Python's own threads",
}


def lines() -> Iterator[str]:
    """The page."""
    yield "# Provider options"
    yield ""
    yield "```python"
    yield 'session = ort.InferenceSession(path, providers=[("RKNNExecutionProvider", {"device": "simulator"})])'
    yield "```"
    yield ""
    yield "Every value may be a Python object or a string. An unknown name is an error that lists the known ones. Where"
    yield "an environment variable is named, it gives the default, so that programs need no change. So does the"
    yield "configuration file `~/.config/ort_rknn/config.toml` (`XDG_CONFIG_HOME` is heeded; `ORT_RKNN_CONFIG` names"
    yield "another file, or none when it is empty). Its keys are the names of the options. What the program says goes"
    yield "before the environment, and that before the file:"
    yield ""
    yield "```toml"
    yield 'target = "rk3588"'
    yield 'device = "auto"'
    yield "schedule = [0, 1, 2]"
    yield 'cpu_ops = ["LSTM"]'
    yield "dims = { batch = 1 }"
    yield "```"
    yield ""
    yield "| option | default | the default is | what it does |"
    yield "|---|---|---|---|"
    for option in OPTIONS.values():
        default = to_text(option.default)
        variable = f"; `{option.env}`" if option.env else ""
        cells = (f"`{option.name}`", f"`{default}`" if default else "-", option.source, option.doc + variable)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
    yield "## Environment variables that are no options"
    yield ""
    yield "| variable | what it does |"
    yield "|---|---|"
    for variable, doc in ENVIRONMENT.items():
        yield f"| `{variable}` | {doc} |"


def main() -> int:
    """Write the page, or check it."""
    page = "\n".join(lines()) + "\n"
    if "--check" in sys.argv:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
