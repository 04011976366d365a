"""Engine whose one step is a call of a model on another machine; needs no onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from ort_rknn.devices.program import BoundCpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import InvalidOption
from ort_rknn.remote.address import TIMEOUT_S, Address
from ort_rknn.remote.model import RemoteModel
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import replace

if TYPE_CHECKING:
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["RemoteStep", "address_of", "in_flight", "remote_engine", "remote_plan"]

_LEAST, _MOST = 12, 24
_SESSIONS = 5  # that find room on a server at once before one of them takes more than the least (a guess)

_HERE = frozenset(
    {"run_timeout_ms", "max_queue_size", "max_callback_queue_size", "submit_timeout_ms", "sequential_callbacks"}
    | {"overflow", "priority"}
)
"""Provider options that mean something on this side; the others are the server's to choose."""


class RemoteStep:
    """A model on another machine as a program's step.

    Args:
        model: The model there.
    """

    def __init__(self, model: RemoteModel) -> None:
        self._model = model

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """One call; the run options hold for this side."""
        return self._model.run(list(output_names or ()), input_feed)


def address_of(text: str, options: Mapping[str, Any]) -> tuple[Address, float]:
    """The address, and the seconds a call may take: the address's own, else ``run_timeout_ms``, else 10.

    Raises:
        InvalidOption: An option that only the server could heed, or an address of no model.
    """
    address = Address.parse(text)
    if strange := sorted(options.keys() - _HERE):
        raise InvalidOption(
            f"the option {strange[0]} is for the machine that runs the model: give it there, "
            f"`ort-rknn serve --option {strange[0]}={options[strange[0]]}`"
        )
    limit = float(options.get("run_timeout_ms", 0) or 0) / 1000
    if priority := str(options.get("priority", "")):
        address = replace(address, priority=address.priority or priority)
    return address, address.timeout or limit or TIMEOUT_S


def remote_engine(model: RemoteModel, options: Mapping[str, Any], observer: Any = None) -> Engine:
    """An engine whose one step is a call of the model there."""
    outside = model.outside
    inputs = tuple(argument.name for argument in (*outside.inputs, *outside.overridable))
    outputs = tuple(argument.name for argument in outside.outputs)
    step = BoundCpuStep(f"{model.address.model} on {model.address.where}", inputs, outputs, RemoteStep(model))
    program = Program.from_steps([step], None, outputs=outputs)
    known = {field.name for field in fields(EngineOptions)} - {"run_timeout_ms"}  # the call's own limit ends it
    at_once = in_flight(model.places or 0)
    given = {"max_queue_size": at_once, **{key: value for key, value in options.items() if key in known}}
    return Engine(
        program,
        EngineOptions(cpu_workers=at_once, **given),
        on_closed=partial(_close, model, observer),
        observer=observer,
    )


def in_flight(places: int) -> int:
    """Calls of submitted jobs that are under way at once: what cores work on while this side or the server is held up.

    With 12, which is 20 ms of work for three cores of 5 ms, cores were busy for 84 to 91 % of the time where six other
    programs wanted the two CPUs; with 24 for 92 to 99 % (measured).

    Args:
        places: Calls that the server lets in, more than which it would refuse; 0 where it does not say.
    """
    most = max(_LEAST, min(_MOST, places // _SESSIONS))
    return min(most, places) if places else most


def _close(model: RemoteModel, profile: Any) -> None:
    model.close()
    if profile is not None:
        profile.end()


def remote_plan(model: RemoteModel) -> Plan:
    """The server's plan, with a note of where it is."""
    from ort_rknn_converters.partition.plan import Plan

    try:
        plan = Plan.from_dict(model.outside.plan) if model.outside.plan else Plan("", "")
    except ValueError as error:  # of another release, maybe: it is shown and decides nothing
        plan = Plan("", "").with_notes(f"the server's plan cannot be read here ({shown(error)})")
    return plan.with_notes(f"the model is on another machine: {model.address.where}")
