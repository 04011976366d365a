"""Session options copied, and lists of providers checked, by onnxruntime where it can be asked to."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

from ort_rknn.ort_private.own import native, public

__all__ = ["TINY_MODEL", "check_providers", "copy_options"]

TINY_MODEL = bytes.fromhex(
    "08083a2b0a100a016112016222084964656e746974791201675a090a016112040a02080962090a016212040a02080942040a00100d"
)
"""An ONNX model with one Identity over a boolean: the least a session can be made of."""

_REFUSED = ("session.disable_cpu_ep_fallback", "ep.context_enable")
"""Entries that a session of the tiny model would fail on, or act on."""

_changing = threading.Lock()


def copy_options(options: Any) -> Any:
    """A copy of session options that may be changed: what a session makes of them and gives back."""
    kind = native("InferenceSession")
    try:
        if not options.enable_profiling:
            return _copied_by(kind, options)
        with _changing:  # or the tiny session would leave a profile of its own behind
            options.enable_profiling = False
            try:
                copy = _copied_by(kind, options)
            finally:
                options.enable_profiling = True
        copy.enable_profiling = True
        return copy
    except (AttributeError, TypeError):  # not as it was
        return _copied_in_public(options)


def _copied_by(kind: Any, options: Any) -> Any:
    copy = kind(options, TINY_MODEL, False, False).session_options
    if copy is options or not hasattr(copy, "add_session_config_entry"):
        raise TypeError("that gave no copy")
    return copy


def _copied_in_public(options: Any) -> Any:
    """The copy by a whole session of the tiny model, with what that must not act on set aside meanwhile."""
    with _changing:
        aside = {name: getattr(options, name) for name in ("enable_profiling", "optimized_model_filepath")}
        entries = {key: "1" for key in _REFUSED if _entry(options, key) == "1"}
        try:
            options.enable_profiling = False
            options.optimized_model_filepath = ""
            for key in entries:
                options.add_session_config_entry(key, "0")
            session = public("InferenceSession")(TINY_MODEL, options, enable_fallback=0)
        finally:
            for name, value in aside.items():
                setattr(options, name, value)
            for key, text in entries.items():
                options.add_session_config_entry(key, text)
    copy = session.get_session_options()
    if not hasattr(copy, "add_session_config_entry"):
        copy = public("SessionOptions")()
        for name in dir(options):
            if not name.startswith("_") and not callable(getattr(options, name)):
                setattr(copy, name, getattr(options, name))
    for name, value in aside.items():
        setattr(copy, name, value)
    for key, text in entries.items():
        copy.add_session_config_entry(key, text)
    return copy


def _entry(options: Any, key: str) -> str:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return ""


def check_providers(
    providers: Sequence[Any], provider_options: Any, available: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Names of providers and their options, one for each.

    Raises:
        ValueError: Malformed arguments, in onnxruntime's words.
    """
    try:
        from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args as check

        known = check([("CPUExecutionProvider", {"a": 1})], None, ["CPUExecutionProvider"])
        if tuple(known) == (["CPUExecutionProvider"], [{"a": "1"}]):
            names, options = check(providers, provider_options, available)
            return list(names), list(options)
    except (AttributeError, ImportError, TypeError):
        pass  # not as it was
    return _checked(providers, provider_options, available)


def _checked(
    providers: Sequence[Any], provider_options: Any, available: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    pairs = [entry if isinstance(entry, tuple) else (entry, {}) for entry in providers]
    if provider_options is not None:
        if not isinstance(provider_options, Sequence):
            raise ValueError("'provider_options' should be a sequence.")
        if len(providers) != len(provider_options):
            raise ValueError("'providers' and 'provider_options' should be the same length if both are given.")
        if not all(isinstance(name, str) for name in providers):
            raise ValueError("Only string values for 'providers' are supported if 'provider_options' is given.")
        if not all(isinstance(given, dict) for given in provider_options):
            raise ValueError("'provider_options' values must be dicts.")
        pairs = list(zip(providers, provider_options, strict=True))
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], dict):
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
        name, given = pair
        if name not in available:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names."
                f"Available providers: '{', '.join(available)}'",
                stacklevel=3,
            )
        if name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=3)
        else:
            found[name] = {str(key): str(value) for key, value in given.items()}
    return list(found), list(found.values())
