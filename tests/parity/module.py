"""Cases: the module itself."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from tests.helpers.parity import Bench, case, cases

_CALLS: dict[str, Any] = {
    "version": lambda ort: [ort.__version__, ort.get_version_string(), ort.version, ort.package_name],
    "device": lambda ort: ort.get_device(),
    "build_info": lambda ort: ort.get_build_info(),
    "collective": lambda ort: ort.has_collective_ops(),
    "telemetry": lambda ort: [ort.disable_telemetry_events(), ort.enable_telemetry_events()],
    "severity": lambda ort: ort.set_default_logger_severity(3),
    "bad_severity": lambda ort: ort.set_default_logger_severity(9),
    "verbosity": lambda ort: ort.set_default_logger_verbosity(0),
    "seed": lambda ort: ort.set_seed(3),
    "enums": lambda ort: [
        sorted((name, int(value)) for name, value in getattr(ort, kind).__members__.items())
        for kind in ("GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder", "OrtAllocatorType", "OrtMemType")
    ],
    "enum_pickles": lambda ort: pickle.loads(pickle.dumps(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)) == 99,
    "ort_value": lambda ort: ort.OrtValue.ortvalue_from_numpy(np.ones((2, 2), np.float32)).shape(),
    "ort_value_of_strings": lambda ort: ort.OrtValue.ortvalue_from_numpy(np.array(["a"])),
    "ort_value_on_npu": lambda ort: ort.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32), "npu"),
    "ort_value_on_tpu": lambda ort: ort.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32), "tpu"),
    "ort_device": lambda ort: ort.OrtDevice.make("cpu", 0).device_type(),
    "memory_info": lambda ort: (
        ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT).name
    ),
    "run_options": lambda ort: [ort.RunOptions().log_severity_level, ort.RunOptions().terminate],
    "available_ends_with_cpu": lambda ort: ort.get_available_providers()[-1],
    "all_ends_with_cpu": lambda ort: ort.get_all_providers()[-1],
    "epdevices": lambda ort: len(ort.get_ep_devices()),
    "node_arg_has_no_constructor": lambda ort: ort.NodeArg(),
    "submodules": lambda ort: [ort.capi.__name__, ort.capi._pybind_state.__name__],
    "exceptions": lambda ort: [
        issubclass(getattr(ort.capi.onnxruntime_pybind11_state, name), Exception)
        for name in ("Fail", "InvalidArgument", "NoSuchFile", "InvalidProtobuf", "NotImplemented", "EPFail")
    ],
    "allocator_twice": lambda ort: callable(ort.create_and_register_allocator),
    "no_such_attribute": lambda ort: hasattr(ort, "Session"),
    "file": lambda ort: ort.__file__.endswith("__init__.py"),
    "star": lambda ort: "InferenceSession" in dir(ort),
}


def _call(function: Any) -> Any:
    return lambda t: function(t.ort)


cases("module", {name: _call(function) for name, function in _CALLS.items()})


@case
def compiler_of_a_plain_model(t: Bench) -> Any:
    from tests.helpers.ort_models import model

    compiler = t.ort.ModelCompiler(t.ort.SessionOptions(), model("two"))
    return len(compiler.compile_to_bytes()) > 100


@case
def compiler_without_a_model(t: Bench) -> Any:
    t.ort.ModelCompiler(t.ort.SessionOptions(), b"")
