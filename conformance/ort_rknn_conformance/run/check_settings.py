"""Checks what a run is asked for, before anything is converted: SoC, precision, device, and what a compiled file is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ort_rknn_conformance.case import CaseError, Settings
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.sources.model_file import made_for
from ort_rknn_converters.errors import UnknownOption, UnknownTarget
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.setup import environment
from ort_rknn_converters.util.frozen import replace

__all__ = ["as_compiled", "check_settings"]

BOARDS = frozenset({"npu", "lite", "emulated"})
"""Devices that are there or not."""


def check_settings(settings: Settings, flow: Flow, *, compiled: bool = False) -> None:
    """Refuse at once what would otherwise end as a comparison of the CPU with itself.

    Args:
        settings: SoC and precision.
        flow: Its device must be there.
        compiled: The model needs no toolkit.
    """
    from ort_rknn.opening.choose_device import DeviceOptions, choose
    from ort_rknn_conformance.flows.emulated_device import is_emulator

    try:
        options = flow.provider_options(settings.target, settings.precision)
        ConvertOptions(target=find_target(settings.target).name, precision=options["precision"])
    except (UnknownTarget, UnknownOption) as error:
        raise CaseError(str(error)) from error
    if why := flow.refusal(settings.target, settings.precision):
        raise CaseError(f"flow {flow.name} does not do {settings.precision} on {settings.target}: {why}")
    if not compiled and environment.toolkit_version() is None:
        raise CaseError(environment.MISSING)
    if flow.name in BOARDS:
        choice = choose(flow.wish(settings.target), DeviceOptions(target=settings.target))
        if choice.device is None:
            raise CaseError(choice.reason)
        library = getattr(choice.device, "library", None)
        choice.device.close()
        if flow.name == "npu" and library is not None and is_emulator(library.path):
            raise CaseError("the runtime library is the tests' emulator, which makes numbers up: take device emulated")


def as_compiled(model: str, settings: Settings, said: Collection[str], asked_for: Sequence[str]) -> Settings:
    """Returns the settings that a compiled model was made with; those given for another model.

    Args:
        model: Path.
        settings: As given.
        said: Which of ``precision`` and ``target`` the user gave.
        asked_for: Flags given that say where nodes run, which is settled in a compiled model.

    Raises:
        CaseError: Another precision or SoC was asked for, or the file cannot be read.
    """
    made = made_for(model)
    if made is None:
        return settings
    if asked_for:
        raise CaseError(
            f"{model} is compiled: where its nodes run is settled. {asked_for[0]} is for the ONNX file itself"
        )
    for name, has in (("precision", (made.precision,)), ("target", made.targets)):
        if name in said and getattr(settings, name) not in has:
            raise CaseError(
                f"{model} was compiled for {name} {', '.join(has)}, not {getattr(settings, name)}: leave --{name} away"
            )
    target = settings.target if settings.target in made.targets else made.targets[0]
    return replace(settings, precision=made.precision, target=target)
