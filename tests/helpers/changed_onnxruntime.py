"""Programs on an onnxruntime whose insides were changed: each in a process of its own, forked after the slow imports.

    python -m tests.helpers.changed_onnxruntime [FOLDER] [CHANGE ...]

A change is written ``kind:name``. One line of JSON comes out for each: what went wrong, if anything. What onnxruntime
itself cannot do with the change is asked of nobody.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime.capi._pybind_state as state
import onnxruntime.capi.onnxruntime_inference_collection as collection

from tests.helpers.ort_models import model

__all__ = ["ALL", "USED"]

CLASSES = ("InferenceSession", "OrtDevice", "OrtValue", "OrtValueVector", "SessionIOBinding")
PYTHON = (
    *("_create_inference_session", "_inputs_meta", "_iobinding", "_ortvalue", "_providers", "_sess", "_sess_options"),
    *("_session", "_validate_input", "check_and_normalize_provider_args"),
)
"""Names of onnxruntime's Python code that this package goes by."""

MORE_PYTHON = (
    *("_bind_session", "_enable_fallback", "_fallback_providers", "_get_c_device", "_get_c_value", "_model_meta"),
    *("_is_webgpu_buffer", "_model_bytes", "_model_path", "_numpy_obj", "_outputs_meta", "_overridable_initializers"),
    *("_provider_options", "_reset_session", "_sess_options_initial", "_validate_ortvalue_ownership"),
)
TAKEN = (
    *("InferenceSession.session_options", "InferenceSession.run_with_ort_values", "InferenceSession.model_meta"),
    *("OrtDevice.default_memory", "OrtDevice.npu", "OrtValue.from_dlpack", "OrtValue.has_value", "OrtValue.is_tensor"),
    *("OrtValue.ortvalue_from_shape_and_type", "OrtValue.update_inplace", "OrtValueVector.push_back"),
    *("SessionIOBinding.bind_input", "SessionIOBinding.get_outputs"),
)
"""Names of the extension module's classes that this package goes by."""

HIDDEN = ("InferenceSession", "OrtDevice", "OrtValue", "OrtValueVector", "InvalidArgument")
USED = (
    "nothing:",
    "hidden:",
    *(f"hidden:{name}" for name in HIDDEN),
    *(f"renamed:{name}" for name in PYTHON),
    *(f"removed:{name}" for name in TAKEN),
    "arity:InferenceSession.session_options",
    "arity:OrtValue.from_dlpack",
    "arity:OrtValue.ortvalue_from_shape_and_type",
    "none:OrtValue.from_dlpack",
    "moved:onnxruntime_inference_collection",
    "moved:_pybind_state",
)


def all_changes() -> Iterator[str]:
    """Every name of the extension module and of its classes that sessions have to do with."""
    yield from USED
    for name in sorted(vars(state)):
        if not name.startswith("__"):
            yield f"hidden:{name}"
            yield f"removed:{name}"
    for kind in CLASSES:
        for name in sorted(vars(getattr(state, kind))):
            if not name.startswith("__"):
                for how in ("removed", "arity", "none"):
                    yield f"{how}:{kind}.{name}"
    yield from (f"renamed:{name}" for name in MORE_PYTHON)
    yield from (f"removed_python:{name}" for name in (*PYTHON, *MORE_PYTHON))


ALL = tuple(dict.fromkeys(all_changes()))


# --- the changes ------------------------------------------------------------------------------------------------------


def change(kind: str, name: str) -> None:
    """Change onnxruntime in this process."""
    if kind == "nothing":
        return
    if kind == "hidden":
        _hide(name)
    elif kind == "renamed":
        _reload(lambda text: re.sub(rf"\b{name}\b", f"{name}_of_tomorrow", text))
    elif kind == "moved":
        sys.modules[f"onnxruntime.capi.{name}"] = None  # type: ignore[assignment]
        vars(onnxruntime.capi).pop(name, None)
    elif kind == "removed_python":
        for owner in vars(collection).values():
            if isinstance(owner, type) and name in vars(owner):
                delattr(owner, name)
    else:
        owner, _, attribute = name.rpartition(".")
        for module in (state, importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")):
            where: Any = getattr(module, owner) if owner else module
            if kind == "removed":
                if attribute in vars(where):
                    delattr(where, attribute)
            elif kind == "none":
                setattr(where, attribute, staticmethod(lambda *_, **__: None))
            else:
                setattr(where, attribute, staticmethod(_of_another_arity))


def _of_another_arity() -> None:
    """What was a method takes nothing now."""


def _hide(name: str) -> None:
    """The extension module without a name (without any, for ``""``); onnxruntime's own code still has it."""
    for dotted in ("_pybind_state", "onnxruntime_pybind11_state"):
        real = importlib.import_module(f"onnxruntime.capi.{dotted}")
        less = ModuleType(real.__name__)
        vars(less).update({key: value for key, value in vars(real).items() if name and key != name})
        sys.modules[real.__name__] = less
        setattr(onnxruntime.capi, dotted, less)


def _reload(edit: Callable[[str], str]) -> None:
    """onnxruntime's Python code with another text."""
    text = edit(Path(str(collection.__file__)).read_text(encoding="utf-8"))
    module = ModuleType(collection.__name__)
    module.__file__ = collection.__file__
    sys.modules[collection.__name__] = module
    exec(compile(text, str(collection.__file__), "exec"), vars(module))
    onnxruntime.capi.onnxruntime_inference_collection = module
    for key, value in list(vars(onnxruntime).items()):
        if getattr(value, "__module__", None) == collection.__name__ and hasattr(module, key):
            setattr(onnxruntime, key, getattr(module, key))


# --- the programs -----------------------------------------------------------------------------------------------------

A = np.array([[1, 2], [3, 4], [-5, 6]], np.float32)
B = np.ones((3, 2), np.float32)
K = A @ np.array([[1, 2], [-1, 3]], np.float32)
Y = np.maximum(K, 0) + B
FEED = {"A": A, "B": B}


def _right(results: Any) -> None:
    assert np.array_equal(results[0], Y), results
    assert np.array_equal(results[1], K), results


def _run(ort: Any, session: Any) -> None:
    _right(session.run(None, FEED))
    _right([session.run(["K", "Y"], FEED)[place] for place in (1, 0)])


def _run_values(ort: Any, session: Any) -> None:
    feed = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in FEED.items()}
    _right([value.numpy() for value in session.run_with_ort_values(None, feed)])


def _feed_values(ort: Any, session: Any) -> None:
    _right(session.run(None, {"A": A, "B": ort.OrtValue.ortvalue_from_numpy(B)}))


def _run_async(ort: Any, session: Any) -> None:
    done, told = threading.Event(), list[Any]()

    def callback(results: Any, data: Any, error: str) -> None:
        told.append((results, data, error))
        done.set()

    session.run_async(None, FEED, callback, 7)
    assert done.wait(20)
    assert told[0][1:] == (7, "")
    _right(told[0][0])


def _bind(ort: Any, session: Any) -> None:
    binding = session.io_binding()
    binding.bind_cpu_input("A", A)
    binding.bind_cpu_input("B", B)
    binding.bind_output("Y")
    binding.bind_output("K")
    session.run_with_iobinding(binding)
    _right(binding.copy_outputs_to_cpu())
    _right([value.numpy() for value in binding.get_outputs()])
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()


def _bind_values(ort: Any, session: Any) -> None:
    binding = session.io_binding()
    binding.bind_ortvalue_input("A", ort.OrtValue.ortvalue_from_numpy(A))
    binding.bind_input("B", "cpu", 0, np.float32, B.shape, B.ctypes.data)
    y, k = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    binding.bind_ortvalue_output("Y", ort.OrtValue.ortvalue_from_numpy(y))
    binding.bind_output("K", "cpu", 0, np.float32, k.shape, k.ctypes.data)
    session.run_with_iobinding(binding)
    _right((y, k))


def _ask(ort: Any, session: Any) -> None:
    assert [one.name for one in session.get_inputs()] == ["A", "B"]
    assert [one.name for one in session.get_outputs()] == ["Y", "K"]
    assert session.get_modelmeta().custom_metadata_map["names"] == "a,b,c"
    assert session.get_providers()[-1] == "CPUExecutionProvider"
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.get_overridable_initializers() == []
    assert isinstance(session.get_provider_options(), dict)


def _refuse(ort: Any, session: Any) -> None:
    for bad in ({"A": A}, {"A": A, "B": B, "C": B}, {"A": A, "B": B.astype(np.float64)}):
        try:
            session.run(None, bad)
        except Exception as error:
            if isinstance(error, (AttributeError, ImportError)):
                raise
        else:
            raise AssertionError("a bad feed was taken")


def _others(ort: Any, session: Any) -> None:
    session.set_providers(["CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    _right(session.run(None, FEED))


PROGRAMS = (_run, _run_values, _feed_values, _run_async, _bind, _bind_values, _ask, _refuse, _others)


def _open(ort: Any, providers: Any, **more: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model("two"), options, providers=providers, **more)


def _try(ort: Any, wrong: dict[str, str], where: str, open_session: Callable[[], Any], names: Any) -> None:
    for program in PROGRAMS:
        if program.__name__ in names:
            try:
                program(ort, open_session())
            except Exception:
                wrong[f"{where}{program.__name__}"] = traceback.format_exc(limit=-6)


def work(kind: str, name: str, folder: str) -> dict[str, str]:
    """Change onnxruntime and run all programs: what went wrong."""
    signal.alarm(60)  # whatever hangs ends with its process
    change(kind, name)
    theirs: dict[str, str] = {}
    cpu = ["CPUExecutionProvider"]
    everything = {program.__name__ for program in PROGRAMS}
    _try(onnxruntime, theirs, "", lambda: _open(onnxruntime, cpu), everything)
    able = everything - set(theirs)
    if "_run" not in able:  # nor does onnxruntime itself
        return {}
    wrong: dict[str, str] = {}
    try:
        import ort_rknn
        from tests.helpers.toolkits.fake import fake_toolkit

        npu = [("RKNNExecutionProvider", {"min_gain": 0})]
        with fake_toolkit(Path(folder)):
            _try(ort_rknn, wrong, "npu", lambda: _open(ort_rknn, npu, device="simulator"), able)
            _try(ort_rknn, wrong, "cpu", lambda: _open(ort_rknn, cpu), able)
            session = _open(ort_rknn, npu, device="simulator")
            assert session.get_providers()[0] == "RKNNExecutionProvider", session.plan
            _right(session.submit(None, FEED).result(20))
            _right(next(session.map(None, [FEED])))
            session.close()
            options = ort_rknn.SessionOptions()
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            _right(ort_rknn.InferenceSession(model("two"), options, npu, device="simulator").run(None, FEED))
            at_load = [("RKNNExecutionProvider", {"min_gain": 0, "compile": "load"})]
            dynamic = ort_rknn.InferenceSession(model("dynamic"), None, at_load, device="simulator")
            assert len(dynamic.run(None, {"X": A})) == len(dynamic.run(None, {"X": A[:2]}))
        if "_bind" in able:
            _on_shared_memory(ort_rknn, able)
    except Exception:
        wrong["open"] = traceback.format_exc(limit=-6)
    return wrong


def _on_shared_memory(ort: Any, able: set[str]) -> None:
    """A binding in the emulated NPU's memory; and on the CPU, where sharing may be refused in words."""
    from tests.helpers import shared_memory
    from tests.helpers.emulator import Emulator

    emulator = Emulator()
    emulator.reset()
    with shared_memory.image_session(emulator) as session:
        binding, x = shared_memory.all_on_npu(session)
        x.update_inplace(shared_memory.picture())
        session.run_with_iobinding(binding)
        for mine, right in zip(binding.get_outputs(), shared_memory.right(shared_memory.picture()), strict=True):
            assert np.array_equal(mine.numpy(), right)
        a = ort.OrtValue.ortvalue_from_numpy(A, "npu")
        with _open(ort, ["CPUExecutionProvider"]) as plain:
            if "_feed_values" in able:
                _right(plain.run(None, {"A": a, "B": B}))
            if "_bind_values" not in able:
                return
            try:
                bound = plain.io_binding()
                bound.bind_ortvalue_input("A", a)
            except RuntimeError as error:
                if "no memory on the NPU can be shared with this onnxruntime (" in str(error):
                    return
                raise
            bound.bind_cpu_input("B", B)
            bound.bind_output("Y")
            bound.bind_output("K")
            plain.run_with_iobinding(bound)
            _right(bound.copy_outputs_to_cpu())


def main(folder: str, changes: list[str]) -> None:
    """Print a line for each change."""
    for text in changes:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            sys.stdout = sys.stderr  # onnxruntime prints on the one
            try:
                wrong = work(*text.split(":", 1), f"{folder}/cache")
            except BaseException:
                wrong = {"change": traceback.format_exc()}
            with os.fdopen(writing, "w") as out:
                out.write(json.dumps(wrong))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            said = answer.read()
        _, status = os.waitpid(child, 0)
        wrong = json.loads(said) if said else {"process": f"ended with status {status}"}
        print(json.dumps({"change": text, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or list(ALL))
