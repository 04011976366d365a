"""What a session was asked for: whether the NPU is wanted, with which options, and what is left for onnxruntime."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args

from ort_rknn.errors import InvalidOption
from ort_rknn.option_values import flag
from ort_rknn.options import RknnOptions
from ort_rknn.provider_names import CPU_PROVIDER, RKNN_PROVIDER, RKNN_PROVIDERS, is_rknn
from ort_rknn.session_options import has_providers

__all__ = ["PROMOTE_VARIABLE", "Request", "check_options", "get_all_providers", "get_available_providers", "read"]

PROMOTE_VARIABLE = "ORT_RKNN_PROMOTE_CPU"

_HARMLESS = frozenset({CPU_PROVIDER, "AzureExecutionProvider"})
_ALREADY_CONFIGURED = (
    "Specified 'providers'/'provider_options' when creating InferenceSession but SessionOptions has "
    "already been configured with providers. InferenceSession will only use the providers "
    "passed to InferenceSession()."
)


@dataclass(frozen=True)
class Request:
    """A session's wish for the NPU.

    Attributes:
        named: The provider (or a device) was named by the caller; otherwise it is the default or a promotion.
        options: The provider options.
        providers: The other providers, for what the NPU does not take; never empty.
        provider_options: Their options.
        cpu_named: The caller listed the CPU provider.
        listed: The caller gave a list at all.
    """

    named: bool
    options: RknnOptions
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    provider_options: tuple[dict[str, str], ...] = ({},)
    cpu_named: bool = False
    listed: bool = False

    def warn_of_doubles(self, sess_options: Any) -> None:
        """Warn as onnxruntime does when both the session options and the call name providers."""
        if self.listed and has_providers(sess_options):
            warnings.warn(_ALREADY_CONFIGURED, stacklevel=6)


def get_available_providers() -> list[str]:
    """The list onnxruntime gives, with ``RKNNExecutionProvider`` in front where it can work.

    It can where an NPU works, and where the environment variable ``ORT_RKNN_DEVICE`` names a device by itself.
    """
    names: list[str] = C.get_available_providers()
    return [RKNN_PROVIDER, *names] if _can_work() else names


def get_all_providers() -> list[str]:
    """Every provider name that is known, ours first, the CPU's last."""
    return [RKNN_PROVIDER, *C.get_all_providers()]


def check_options(providers: Any, provider_options: Any, sess_options: Any) -> None:
    """Read our provider's options before a model is opened, so that nothing can swallow the error.

    Raises:
        InvalidOption: An option that does not exist, or a value that makes no sense.
        UnknownTarget: A SoC that is not in the table of targets.
    """
    for name, options in _entries(providers, provider_options):
        if is_rknn(name):
            RknnOptions.parse(options)
    if getattr(sess_options, "_rknn_provider", None) is not None:
        RknnOptions.parse(sess_options._rknn_provider)
    _promotion_wanted()


def read(providers: Any, provider_options: Any, sess_options: Any, *, device_given: bool) -> Request | None:
    """What a session's arguments ask of the NPU.

    Args:
        providers: As given to the session.
        provider_options: As given to the session.
        sess_options: As given to the session.
        device_given: A device was given by keyword, which asks for the NPU side whatever the list says.

    Returns:
        ``None`` when onnxruntime alone is to serve the session.

    Raises:
        ValueError: Malformed arguments, in onnxruntime's words.
    """
    if not isinstance(providers, Sequence | None) or isinstance(providers, str):
        return None  # onnxruntime says what is wrong with it
    if not providers:
        return _read_default(sess_options, device_given)
    entries = _entries(providers, provider_options)
    ours = next((options for name, options in entries if is_rknn(name)), None)
    if ours is None and not device_given and not _promoted(entries):
        return None

    names, options = check_and_normalize_provider_args(
        providers, provider_options, [*RKNN_PROVIDERS, *C.get_available_providers()]
    )
    if ours is not None and not device_given and CPU_PROVIDER in names[: _first_rknn(names)]:
        return None  # the CPU comes first and takes every node, as onnxruntime would have it
    rest = [(name, given) for name, given in zip(names, options, strict=True) if not is_rknn(name)]
    cpu_named = any(name == CPU_PROVIDER for name, _ in rest)
    if not cpu_named:
        rest.append((CPU_PROVIDER, {}))
    return Request(
        named=ours is not None or device_given,
        options=RknnOptions.parse(ours),
        providers=tuple(name for name, _ in rest),
        provider_options=tuple(given for _, given in rest),
        cpu_named=cpu_named,
        listed=True,
    )


def without_rknn(providers: Any, provider_options: Any) -> tuple[Any, Any]:
    """The arguments for onnxruntime alone: the same, without our provider's entries."""
    entries = _entries(providers, provider_options)
    if not any(is_rknn(name) for name, _ in entries):
        return providers, provider_options
    kept = [index for index, (name, _) in enumerate(entries) if not is_rknn(name)]
    if provider_options is not None and len(provider_options) == len(entries):
        provider_options = [provider_options[index] for index in kept] or None
    return [providers[index] for index in kept] or [CPU_PROVIDER], provider_options


def _read_default(sess_options: Any, device_given: bool) -> Request | None:
    """No providers were given: those of the session options, else all that can work."""
    ours = getattr(sess_options, "_rknn_provider", None)
    if ours is None and has_providers(sess_options) and not device_given:
        return None
    return Request(named=ours is not None or device_given, options=RknnOptions.parse(ours))


def _promoted(entries: Sequence[tuple[Any, Mapping[Any, Any]]]) -> bool:
    """Whether a list that would leave only the CPU is to mean "the NPU first"."""
    if not _promotion_wanted():
        return False
    available = set(C.get_available_providers())
    left = {name for name, _ in entries if name in available}
    return CPU_PROVIDER in left and left <= _HARMLESS


def _promotion_wanted() -> bool:
    wish = os.environ.get(PROMOTE_VARIABLE, "")
    if not wish.strip():
        return False
    try:
        return flag(wish)
    except ValueError as reason:
        raise InvalidOption(f"environment variable {PROMOTE_VARIABLE} must be {reason}, not {wish!r}") from None


def _first_rknn(names: Sequence[str]) -> int:
    return next(index for index, name in enumerate(names) if is_rknn(name))


def _entries(providers: Any, provider_options: Any) -> list[tuple[Any, Mapping[Any, Any]]]:
    """Name and options of every well-formed entry; the malformed ones are onnxruntime's to refuse."""
    if providers is None or isinstance(providers, str) or not isinstance(providers, Sequence):
        return []
    options = provider_options if isinstance(provider_options, Sequence) else ()
    entries: list[tuple[Any, Mapping[Any, Any]]] = []
    for index, entry in enumerate(providers):
        if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], dict):
            entries.append((entry[0], entry[1]))
        else:
            given = options[index] if index < len(options) else {}
            entries.append((entry, given if isinstance(given, dict) else {}))
    return entries


def _can_work() -> bool:
    from ort_rknn.devices.choose import npu_problem

    options = RknnOptions.parse()
    if options.device in ("auto", "npu", "lite"):
        return npu_problem(options.runtime_library) is None
    return options.device != "cpu"
