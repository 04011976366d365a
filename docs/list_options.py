"""Writes docs/options.md from the table of provider options, which is the one place where they are described.

python -m docs.list_options           rewrites it
python -m docs.list_options --check   exit code 1 when it is out of date
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from docs.markdown import write_or_check
from ort_rknn.bench.cli import command as bench
from ort_rknn.options.parsers import path_list, text, to_text
from ort_rknn.options.reading import ALIASES
from ort_rknn.options.table import OPTIONS, Option
from ort_rknn_conformance.cli import check
from ort_rknn_converters.cli.convert import command as convert
from ort_rknn_converters.options import ConvertOptions

PAGE = Path(__file__).with_name("options.md")
COMMANDS = {"convert": convert, "bench": bench, "check": check}
ENVIRONMENT = {
    "ORT_RKNN_TOOLKIT_PYTHON": "the Python that runs rknn-toolkit2, in the place of any other",
    "ORT_RKNN_PROMOTE_CPU": "`1`: the NPU goes first where a program asks for `CPUExecutionProvider` alone",
    "ORT_RKNN_CACHE_DIR": "folder of the compiled models and of the toolkit's private environment",
    "ORT_RKNN_CACHE_LIMIT": "what compiled models may take, e.g. 2G; the least recently used go; default 10 GiB",
    "ORT_RKNN_CONFIG": "the configuration file; empty: none",
    "ORT_RKNN_SWITCH_INTERVAL_MS": "Python's switch interval while a submission waits for room; default 0.5, "
    "measured, and 0.1 while callbacks pile up and while contexts are opened beside work; 0 leaves it alone",
    "ORT_RKNN_ARBITER_KEY": 'key of the semaphores of `arbiter="machine"`; default 0x524b4e50',
    "ORT_RKNN_RUNTIME_DIR": "folder of the pages that `ort-rknn top` reads; `off`: none",
    "ORT_RKNN_NATIVE_LIBRARY": "the native lanes' library; `off`: Python's own threads",
}
INTRODUCTION = """\
# Options

An option says how a model is compiled, on which device it runs, and how calls are queued. A session takes options beside the
provider's name:

```python
session = ort.InferenceSession(path, providers=[("RKNNExecutionProvider", {"device": "simulator"})])
```

Every value may be a Python object or a string. An empty string is the default. An unknown name, and a value that makes no sense, is an
`InvalidOption` before anything is opened; its text lists what there is. Names in values (inputs, dimensions, nodes, operators) that
the model does not have are errors too.

**Where a value comes from.** The program goes first. Then comes the environment variable, where one is named below. Then comes the
configuration file `~/.config/ort_rknn/config.toml` (`XDG_CONFIG_HOME` is heeded, and `ORT_RKNN_CONFIG` names another file). Then comes the default.

```toml
target = "rk3588"
device = "auto"
schedule = [0, 1, 2]
cpu_ops = ["LSTM"]
dims = { batch = 1 }
```

**As strings.** Lists have commas: `cpu_ops="LSTM,Resize"`. Mappings have semicolons: `dims="batch=1;seq=128"`. Shapes have `x`:
`shapes="image=1x3x640x640;mask=1x77"`. Several shapes of one input follow each other: `shapes="x=1x3x48x320;1x3x48x640"`.

**Commands** take the same names with dashes: `--cpu-ops LSTM`. Where a command has a shorter word, both work, here and there."""


def values(option: Option) -> str:
    """Values an option takes, in the words of its own refusal."""
    if allowed := ConvertOptions.allowed(option.name) if option.name in ConvertOptions.names() else ():
        return f"one of {', '.join(map(str, allowed))}"
    if option.parse is path_list:
        return "paths, separated by commas"
    if option.parse is text:
        return "a text"
    try:
        option.parse(object())
    except RuntimeError as error:  # says all by itself
        said = str(error)
        listed = said.partition("Known targets: ")[2] or said.partition(" must be ")[2] or said
        return re.split(r"[,;] not <", listed)[0]
    except ValueError as error:
        return str(error)
    return "anything"


def flags(name: str) -> Iterator[str]:
    """Flags of the commands for an option."""
    for command, there in COMMANDS.items():
        for parameter in there.params:
            if (command, parameter.name) == ("bench", "jobs"):
                continue  # its own word: inferences in flight
            words = [flag.removeprefix("--").replace("-", "_") for flag in parameter.opts if flag.startswith("--")]
            if isinstance(parameter, click.Option) and any(ALIASES.get(word, word) == name for word in words):
                shown = sorted((flag for flag in parameter.opts if flag.startswith("--")), key=len)
                yield f"{command} " + ", ".join(f"`{flag}`" for flag in shown)


def lines() -> Iterator[str]:
    """The page."""
    yield INTRODUCTION
    yield ""
    yield "## Provider options"
    yield ""
    yield "| option | what it does | values | default, and where it comes from | flags of commands |"
    yield "|---|---|---|---|---|"
    for option in OPTIONS.values():
        default = to_text(option.default)
        shown = f"`{default}`: {option.source}" if default else option.source
        variable = f"; variable `{option.env}`" if option.env else ""
        cells = (f"`{option.name}`", option.doc, values(option), shown + variable, "; ".join(flags(option.name)) or "-")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
    yield "## Other names"
    yield ""
    yield "Shorter words that mean an option, in programs, files and commands."
    yield ""
    yield "| word | option |"
    yield "|---|---|"
    for alias, name in ALIASES.items():
        yield f"| `{alias}` | `{name}` |"
    yield ""
    yield "## Environment variables that are no options"
    yield ""
    yield "| variable | what it does |"
    yield "|---|---|"
    for variable, doc in ENVIRONMENT.items():
        yield f"| `{variable}` | {doc} |"


if __name__ == "__main__":
    raise SystemExit(write_or_check(PAGE, lines()))
