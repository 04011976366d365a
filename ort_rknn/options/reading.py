"""Reads a user's provider options: from the program, else the environment, else the configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ort_rknn.errors import InvalidOption
from ort_rknn.options.config_file import read_config
from ort_rknn.options.parsers import Parser, flag, number, size
from ort_rknn.options.rows import Option, refuse_unknown, unsaid

__all__ = ["ALIASES", "read_values"]

ALIASES: Mapping[str, str] = {
    "algorithm": "quantized_algorithm",
    "method": "quantized_method",
    "timeout": "compile_timeout_s",
    "timeout_s": "compile_timeout_s",
    "shape": "shapes",
    "dim": "dims",
    "value": "values",
    "cpu_op": "cpu_ops",
    "cpu_node": "cpu_nodes",
    "disable_rule": "disable_rules",
    "hint": "performance_hint",
    "latency": "simulator_latency_ms",
    "cores": "simulator_cores",
}
"""Other names of options: words that the commands have for the same. The command takes the option's own name, too."""

_CORES = ("schedule", "tp_mode", "performance_hint")
"""Options that exclude each other: a program that gives one does not get another from the configuration file."""


_VARIABLES: Mapping[str, Parser] = {
    "ORT_RKNN_PRINT_PERF": flag,
    "ORT_RKNN_SWITCH_INTERVAL_MS": number(0),
    "ORT_RKNN_CACHE_LIMIT": size,
}
"""Environment variables that are no options, but are wrong in the same way."""


def read_values(options: Mapping[str, Option], values: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the options that were said anywhere, checked one by one.

    Args:
        options: The table.
        values: Option name, or another name of it, to value: what the program gives.

    Raises:
        InvalidOption: A name that does not exist or stands twice, or a value that makes no sense.
    """
    for variable, parse in _VARIABLES.items():
        if not unsaid(text := os.environ.get(variable)):
            try:
                parse(text)
            except ValueError as reason:
                raise InvalidOption(f"environment variable {variable} must be {reason}, not {text!r}") from None
    given = _named(options, {str(name): value for name, value in values.items()}, "")
    content, file = read_config()
    config = _named(options, content, f" in {file}")
    parsed = {}
    for row in options.values():
        value, origin = given.get(row.name), f"RKNNExecutionProvider option {row.name!r}"
        if unsaid(value) and row.env:
            value, origin = os.environ.get(row.env), f"environment variable {row.env}"
        if unsaid(value) and not (row.name in _CORES and any(not unsaid(given.get(name)) for name in _CORES)):
            value, origin = config.get(row.name), f"{row.name} in {file}"
        if unsaid(value):
            continue
        try:
            parsed[row.name] = row.parse(value)
        except RuntimeError as error:  # InvalidOption or UnknownTarget, which say all but where it stood
            raise InvalidOption(f"{origin}: {error}") from None
        except ValueError as reason:
            raise InvalidOption(f"{origin} must be {reason}, not {value!r}") from None
    return parsed


def _named(options: Mapping[str, Option], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values by the options' own names."""
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for alias, value in given.items():
        name = ALIASES.get(alias, alias)
        if unsaid(value):
            found.setdefault(name, value)
            continue
        if name in said:
            raise InvalidOption(f"{said[name]} and {alias}{where} are two names of one option: give {name} alone")
        said[name], found[name] = alias, value
    refuse_unknown(found, options, where)
    return found
