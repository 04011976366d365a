"""An option has one name: the command's flag is the session's word, other flags are shorter names of it."""

from __future__ import annotations

import click
import pytest

from ort_rknn.bench.cli import command as bench
from ort_rknn.options.reading import ALIASES
from ort_rknn.options.table import OPTIONS
from ort_rknn_conformance.cli import check
from ort_rknn_converters.cli.convert import command as convert
from ort_rknn_converters.options import ConvertOptions

OWN = {"options_file", "json_file", "as_json", "model", "output", "output_folder", "input_file", "more"}
SHORT = {"timeout": "compile_timeout_s", "hint": "performance_hint"}
SHORT |= {"latency": "simulator_latency_ms", "cores": "simulator_cores"}
VALUES = ("--int8", "--w4a16")
"""Flags that are a value of an option."""

ONLY_HERE = {"seed", "npu_only"}
"""Of ConvertOptions, and of no session: a session has onnxruntime's own word for the second."""


@pytest.mark.parametrize("command", [convert, bench, check], ids=lambda command: str(command.name))
def test_a_flag_for_an_option_has_its_name(command: click.Command) -> None:
    for parameter in command.params:
        name = SHORT.get(str(parameter.name), str(parameter.name))
        if name in OPTIONS and name not in OWN:
            assert f"--{name.replace('_', '-')}" in parameter.opts or parameter.opts[0] in VALUES, parameter.opts


def test_every_shorter_flag_is_another_name_in_sessions() -> None:
    for parameter in (*convert.params, *bench.params):
        name = SHORT.get(str(parameter.name), str(parameter.name))
        if name not in OPTIONS:
            continue
        for flag in parameter.opts:
            word = flag.lstrip("-").replace("-", "_")
            if flag.startswith("--") and flag not in VALUES:
                assert word == name or ALIASES.get(word) == name, flag


def test_sessions_have_every_option_of_a_conversion() -> None:
    named = {ALIASES.get(name, name) for name in ConvertOptions.names()}
    assert named - set(OPTIONS) == ONLY_HERE
