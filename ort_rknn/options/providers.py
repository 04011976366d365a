"""Reads what a session was asked for: whether the NPU is wanted, its options, and what is left for onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDERS, has_providers, is_rknn
from ort_rknn.ort_private.arguments import check_providers
from ort_rknn.ort_private.own import public

if TYPE_CHECKING:
    from ort_rknn.options.request import Request
    from ort_rknn.options.table import RknnOptions

__all__ = [
    "PROMOTE_VARIABLE",
    "CheckedOptions",
    "check_options",
    "given_options",
    "parse_options",
    "read",
    "why_not_asked",
]

PROMOTE_VARIABLE = "ORT_RKNN_PROMOTE_CPU"

_HARMLESS = frozenset({CPU_PROVIDER, "AzureExecutionProvider"})


class CheckedOptions:
    """Our provider's options as read before the model is opened, kept for :func:`read`.

    Attributes:
        listed: Of the first of our entries in the list of providers.
        configured: Of the session options.
        promotes: Whether a list that leaves only the CPU is to mean "the NPU first".
    """

    __slots__ = ("configured", "listed", "promotes")

    def __init__(self, promotes: bool) -> None:
        self.promotes = promotes
        self.listed: RknnOptions | None = None
        self.configured: RknnOptions | None = None


def check_options(
    providers: Any, provider_options: Any, sess_options: Any, *, device_given: bool = False
) -> CheckedOptions:
    """Reads our provider's options before a model is opened, so that nothing can swallow the error.

    Everything that :func:`read` would read is read here: the environment and the configuration file, too, where the
    NPU is asked for without any option.

    Args:
        providers: As given to the session.
        provider_options: As given to the session.
        sess_options: As given to the session.
        device_given: A device was given by keyword.

    Raises:
        InvalidOption: An option that does not exist, or a value that makes no sense.
    """
    checked = CheckedOptions(_promotion_wanted())
    entries = _entries(providers, provider_options)
    for name, options in entries:
        if is_rknn(name):
            parsed = parse_options(options)
            checked.listed = checked.listed or parsed
    configured = getattr(sess_options, "_rknn_provider", None)
    if configured is not None or (_unlisted(providers) and (device_given or not has_providers(sess_options))):
        checked.configured = parse_options(configured)
    if checked.listed is None and entries and (device_given or (checked.promotes and _leaves_the_cpu(entries))):
        checked.listed = parse_options()
    return checked


def read(
    providers: Any,
    provider_options: Any,
    sess_options: Any,
    *,
    device_given: bool,
    checked: CheckedOptions | None = None,
) -> Request | None:
    """Reads what a session's arguments ask of the NPU.

    Args:
        providers: As given to the session.
        provider_options: As given to the session.
        sess_options: As given to the session.
        device_given: A device was given by keyword, which asks for the NPU side whatever the list says.
        checked: The options that :func:`check_options` has read from the same arguments.

    Returns:
        ``None`` when onnxruntime alone is to serve the session.

    Raises:
        ValueError: Malformed arguments, in onnxruntime's words.
    """
    if _unlisted(providers):
        return _read_default(sess_options, device_given, checked)
    if not isinstance(providers, Sequence) or isinstance(providers, str):
        return None  # onnxruntime says what is wrong with it
    entries = _entries(providers, provider_options)
    ours = next((options for name, options in entries if is_rknn(name)), None)
    if ours is None and not device_given:
        promotes = checked.promotes if checked is not None else _promotion_wanted()
        if not (promotes and _leaves_the_cpu(entries)):
            return None

    names, options = check_providers(
        providers, provider_options, [*RKNN_PROVIDERS, *public("get_available_providers")()]
    )
    if ours is not None and not device_given and CPU_PROVIDER in names[: _first_rknn(names)]:
        return None  # the CPU comes first and takes every node, as onnxruntime would have it
    rest = [(name, given) for name, given in zip(names, options, strict=True) if not is_rknn(name)]
    cpu_named = any(name == CPU_PROVIDER for name, _ in rest)
    if not cpu_named:
        rest.append((CPU_PROVIDER, {}))
    from ort_rknn.options.request import Request

    return Request(
        named=ours is not None or device_given,
        options=(checked.listed if checked is not None else None) or parse_options(ours),
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


def why_not_asked(providers: Any) -> str:
    """Reason why a list of providers leaves everything to onnxruntime."""
    if any(is_rknn(name) for name, _ in _entries(providers, None)):
        return f"{RKNN_PROVIDERS[0]} does not stand before the CPU's in the list of providers"
    if _unlisted(providers):
        return "the session options name other providers"
    return (
        f"{RKNN_PROVIDERS[0]} is not in the list of providers; name it there, or set {PROMOTE_VARIABLE}=1 for programs"
        " that are not yours"
    )


def _read_default(sess_options: Any, device_given: bool, checked: CheckedOptions | None) -> Request | None:
    """No providers were given: those of the session options, else all that can work."""
    ours = getattr(sess_options, "_rknn_provider", None)
    if ours is None and has_providers(sess_options) and not device_given:
        return None
    from ort_rknn.options.request import Request

    options = (checked.configured if checked is not None else None) or parse_options(ours)
    return Request(named=ours is not None or device_given, options=options)


def _unlisted(providers: Any) -> bool:
    """Whether no provider is listed, so that the session options or the default decide."""
    return providers is None or (isinstance(providers, Sequence) and not isinstance(providers, str) and not providers)


def _leaves_the_cpu(entries: Sequence[tuple[Any, Mapping[Any, Any]]]) -> bool:
    """Whether only the CPU is left of a list here."""
    available = set(public("get_available_providers")())
    left = {name for name, _ in entries if name in available}
    return CPU_PROVIDER in left and left <= _HARMLESS


def _promotion_wanted() -> bool:
    """Whether the environment wants the NPU for programs that name only the CPU."""
    wish = os.environ.get(PROMOTE_VARIABLE, "")
    if not wish.strip():
        return False
    from ort_rknn.options.parsers import flag

    try:
        return flag(wish)
    except ValueError as reason:
        raise InvalidOption(f"environment variable {PROMOTE_VARIABLE} must be {reason}, not {wish!r}") from None


def parse_options(options: Mapping[Any, Any] | None = None) -> RknnOptions:
    """Our provider's options; a session on onnxruntime alone does not import their table."""
    from ort_rknn.options.table import RknnOptions

    return RknnOptions.parse(options)


def given_options(providers: Any, provider_options: Any, sess_options: Any) -> dict[str, Any]:
    """Our provider's options that were given, read; none that has its default.

    Raises:
        InvalidOption: An option that does not exist, or a value that makes no sense.
    """
    configured = getattr(sess_options, "_rknn_provider", None) or {}
    listed = [options for name, options in _entries(providers, provider_options) if is_rknn(name)]
    given = {str(name): value for name, value in (listed[0] if listed else configured).items()}
    parsed = parse_options(given)
    return {name: getattr(parsed, name) for name, value in given.items() if str(value).strip()}


def _first_rknn(names: Sequence[str]) -> int:
    return next(index for index, name in enumerate(names) if is_rknn(name))


def _entries(providers: Any, provider_options: Any) -> list[tuple[Any, Mapping[Any, Any]]]:
    """Name and options of every well-formed entry; the malformed ones are onnxruntime's to refuse."""
    if providers is None or isinstance(providers, str) or not isinstance(providers, Sequence):
        return []
    options = provider_options if isinstance(provider_options, Sequence) else ()
    entries: list[tuple[Any, Mapping[Any, Any]]] = []
    for index, entry in enumerate(providers):
        if not options and isinstance(entry, str):
            entries.append((entry, {}))
        elif isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], dict):
            entries.append((entry[0], entry[1]))
        else:
            given = options[index] if index < len(options) else {}
            entries.append((entry, given if isinstance(given, dict) else {}))
    return entries
