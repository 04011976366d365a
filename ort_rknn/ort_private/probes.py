"""Whether onnxruntime's insides are as this package knows them, tried on the least model there is."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ort_rknn.ort_private.arguments import TINY_MODEL
from ort_rknn.ort_private.own import native, public, version

__all__ = ["hooks_work"]

_CPU = "CPUExecutionProvider"
_NAMES = ("inputs_meta", "outputs_meta", "overridable_initializers", "model_meta", "session_options")


@functools.cache
def hooks_work() -> bool:
    """Whether a native session of ours can be put into onnxruntime's Python one (half a millisecond to find out).

    Where not, sessions and bindings are made of its public classes only: slower, with the same answers.
    """
    try:
        why = _differs()
    except Exception as error:  # whatever a release says to a call that it does not know
        why = str(error).strip().partition("\n")[0] or type(error).__name__
    if why:
        from ort_rknn_converters.util.log import logger

        logger().info("onnxruntime %s is used by its public names only: %s", version(), why)
    return not why


def _differs() -> str:
    """Finds what is not as known; ``""`` where all is."""
    from ort_rknn.ort_private.hooked import HookedSession

    kind: Any = native("InferenceSession")
    ran: list[str] = []
    options = public("SessionOptions")()
    options.intra_op_num_threads = 1  # no threads are started

    class Native(kind):  # type: ignore[misc]
        def run(self, *arguments: Any) -> Any:
            ran.append("run")
            return super().run(*arguments)

        def run_with_ort_values(self, *arguments: Any) -> Any:
            ran.append("run_with_ort_values")
            return super().run_with_ort_values(*arguments)

        def run_with_iobinding(self, *arguments: Any) -> None:
            ran.append("run_with_iobinding")
            super().run_with_iobinding(*arguments)

    class Probe(HookedSession):
        def _rknn_make(self, providers: Any, provider_options: Any, disabled: Any) -> None:
            again, given = bool(ran), (list(providers), provider_options, disabled)
            ran.append("make")
            if given != ([_CPU], None, None if again else {"no"}):
                raise TypeError("_create_inference_session takes other arguments")
            if again:
                made = self._rknn_create(options, providers, provider_options, disabled)
                if type(made) is not kind:
                    raise TypeError("onnxruntime's _sess is no native session")
            else:
                opened = Native(options, TINY_MODEL, False, False)
                opened.initialize_session([_CPU], [{}], set())
                self._rknn_attach(opened)

    session = Probe(TINY_MODEL, None, [_CPU], enable_fallback=0, disabled_optimizers={"no"})
    if ran != ["make"]:
        return "_create_inference_session is not what makes a session"
    opened, fed = session._rknn_native, np.array(True)
    _ask(session, opened)
    if not session.run(None, {"a": fed})[0]:
        return "a native session does not run"
    value = public("OrtValue").ortvalue_from_numpy(fed)
    if not session.run_with_ort_values(None, {"a": value})[0].numpy():
        return "a native session does not run over values"
    _try_binding(session, opened)
    if ran != ["make", "run", "run_with_ort_values", "run_with_iobinding"]:
        return "sessions do not run through their _sess"
    session.set_providers([_CPU])
    if ran[4:] != ["make"] or session._rknn_native is opened or not session.run(None, {"a": fed})[0]:
        return "set_providers does not make the session anew"
    session._rknn_native = None
    return "" if session._rknn_native is None else "a session keeps its _sess"


def _ask(session: Any, opened: Any) -> None:
    """Asks a session that only a native side was put into.

    Raises:
        Exception: It does not answer as known.
    """
    if not all(hasattr(opened, name) for name in _NAMES) or opened.inputs_meta[0].name != "a":
        raise TypeError("native sessions do not say what their models are")
    session._rknn_validate(["a"])
    said = (
        [argument.name for argument in (*session.get_inputs(), *session.get_outputs())],
        list(session.get_overridable_initializers()),
        session.get_modelmeta().graph_name,
        list(session.get_providers()),
        list(session.get_provider_options()),
        isinstance(session.get_session_options(), public("SessionOptions")),
    )
    if said != (["a", "b"], [], opened.model_meta.graph_name, [_CPU], [_CPU], True):
        raise TypeError("a session does not say what its _sess says")


def _try_binding(session: Any, opened: Any) -> None:
    """Binds and reads by native calls.

    Raises:
        Exception: It does not work as known.
    """
    device, vector, values = native("OrtDevice"), native("OrtValueVector")(), native("OrtValue")
    cpu = device(device.cpu(), device.default_memory(), 0)
    device.npu()
    binding = public("SessionIOBinding")(opened)
    binding.bind_input("a", np.array(True))
    binding.bind_output("b", cpu)
    shown = public("IOBinding")(session)
    if getattr(shown, "_session", opened) is not opened:  # older releases have none
        raise TypeError("a binding's _session is not its session")
    shown._iobinding = binding
    session.run_with_iobinding(shown)
    if not binding.get_outputs()[0].numpy() or not shown.copy_outputs_to_cpu()[0]:
        raise TypeError("a native binding does not give what was computed")
    given = values.ortvalue_from_shape_and_type((), np.bool_, cpu)
    given.update_inplace(np.array(False))
    vector.push_back(given)
    if type(binding.get_outputs()) is not type(vector) or type(vector[0]) is not values:
        raise TypeError("a vector of values is not as it was")
    binding.bind_ortvalue_input("a", given)
    binding.bind_ortvalue_output("b", given)
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    if public("OrtValue")(given)._ortvalue is not given:
        raise TypeError("an OrtValue does not hold its _ortvalue")
