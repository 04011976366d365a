"""Causes and cures of errors: by the part of the packages that raises them, and for texts of the vendor's software."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INTERNAL", "TOPICS", "VENDOR", "Topic"]


@dataclass(frozen=True)
class Topic:
    """What errors of some modules have in common.

    Attributes:
        title: Heading.
        cause: Why they come.
        cure: What to do.
        modules: Beginnings of module names without the package's directory.
    """

    title: str
    cause: str
    cure: str
    modules: tuple[str, ...]


INTERNAL = (
    "ort_rknn.__main__",
    "ort_rknn.backend",
    "ort_rknn.ort_private",
    "ort_rknn.devices.fake",
    "ort_rknn.devices.rknnrt.abi",
    "ort_rknn.devices.rknnrt.native_calls",
    "ort_rknn.engine.lanes.native",
    "ort_rknn.serving.workers",
    "ort_rknn_converters.util",
    "ort_rknn_converters.rknn_format.literals",
    "ort_rknn_converters.rknn_format.flatbuffer",
    "ort_rknn_converters.passes.tape",
    "ort_rknn_converters.onnx_file.protobuf_wire",
    "ort_rknn_conformance.hardware.contract",
)
"""Modules whose texts are onnxruntime's own words, or reach nobody by themselves: another error carries them."""

TOPICS = (
    Topic(
        "A bad option",
        "An option has a name that does not exist, a value that makes no sense, or one that contradicts another.",
        "The text names the option, where it stands (program, variable or file), and the values there are. All options"
        " stand on [the options page](options.md).",
        (
            "ort_rknn.options",
            "ort_rknn.engine.options",
            "ort_rknn.engine.lanes.schedule",
            "ort_rknn.devices.settings",
            "ort_rknn.opening.unmet_names",
            "ort_rknn.opening.dynamic_shapes",
            "ort_rknn.api.session",
            "ort_rknn_converters.options",
            "ort_rknn_converters.pinned_values",
            "ort_rknn_converters.shape_sets",
            "ort_rknn_converters.targets",
            "ort_rknn_converters.calibration_source",
            "ort_rknn_converters.onnx_file.signature",
            "ort_rknn_converters.cli",
            "ort_rknn_converters.cache.limit",
            "ort_rknn_converters.toolkit.request",
            "ort_rknn.cli",
            "ort_rknn.ort_conventions",
            "ort_rknn.signatures",
        ),
    ),
    Topic(
        "Why a model is on the CPU, and how it is opened",
        "The session found no device, no compiled code for this board, or nothing that pays; or the model cannot be opened in the way"
        " that was asked for.",
        "`print(session.plan)` has the reason for every node, and `ort-rknn doctor` the state of the machine. A compiled file opens where"
        " its SoC is, or anywhere if it kept its ONNX.",
        ("ort_rknn.opening", "ort_rknn.api.model_compiler", "ort_rknn.plugin", "ort_rknn.errors"),
    ),
    Topic(
        "No NPU can be used",
        "The driver, the device node, its permission, the runtime library, or the board itself is missing or too old.",
        "`ort-rknn doctor` shows each of them with its cure. A runtime library is named by `ORT_RKNN_RUNTIME_LIBRARY`.",
        (
            "ort_rknn.devices.rknnrt.device",
            "ort_rknn.devices.rknnrt.library",
            "ort_rknn.devices.rknnrt.open",
            "ort_rknn.devices.soc",
            "ort_rknn.bench.plugin",
            "ort_rknn.devices.library_name",
        ),
    ),
    Topic(
        "An inference failed on the device",
        "The runtime refused a call, the compiled code does not belong to this board or runtime, or an inference hung.",
        "The session rebuilds the context and goes on. If it comes again: update librknnrt and the driver, compile with the newest"
        " toolkit, and try one core (`schedule=0`). After a hang only a restart of the board is known to help.",
        ("ort_rknn.devices",),
    ),
    Topic(
        "Feeds, memory and bindings",
        "An array, an `OrtValue` or a binding does not fit the model, or lies where this call cannot read it.",
        "The text names the input, what it is and what the model takes. Bindings are made by `session.io_binding()`; see"
        " [zero copy](zero-copy.md).",
        ("ort_rknn.sessions", "ort_rknn.ort_types", "ort_rknn.api.streams", "ort_rknn.variant_keys"),
    ),
    Topic(
        "Queues and closed sessions",
        "The queue stayed full until the time limit, the session was closed, or a job was waited for where it cannot end.",
        "Take results faster, raise `max_queue_size` or `submit_timeout_ms`, or let `overflow` decide: `drop_oldest` suits cameras.",
        ("ort_rknn.engine", "ort_rknn.api"),
    ),
    Topic(
        "The model cannot be read or cut",
        "The file is no ONNX model, it is damaged or incomplete, onnxruntime itself cannot run it, or given shapes contradict it.",
        "Open it with onnxruntime alone: what fails there fails here. Give the model's path, with its weight files beside it.",
        (
            "ort_rknn_converters.graph",
            "ort_rknn_converters.array_files",
            "ort_rknn_converters.lower",
            "ort_rknn_converters.numerics",
            "ort_rknn_converters.onnx_file",
            "ort_rknn_converters.passes",
            "ort_rknn_converters.partition",
            "ort_rknn_converters.pipeline",
            "ort_rknn_converters.compile",
            "ort_rknn_converters.toolkit.model_io",
        ),
    ),
    Topic(
        "A compiled file cannot be read or written",
        "It is damaged, incomplete, of another make or version, or the disk is full.",
        "Copy it again with all files that belong to it (`*.rknn`, `*.weights`), or convert the model again.",
        ("ort_rknn_converters.compiled", "ort_rknn_converters.rknn_format", "ort_rknn_converters.cache"),
    ),
    Topic(
        "Calibration data",
        "int8 needs real inputs, and those given are missing, empty, or of other names, shapes or types than the model's inputs.",
        "The text says what the model takes. [Int8 and four bits](quantization.md) shows the forms.",
        ("ort_rknn_converters.quantize",),
    ),
    Topic(
        "The toolkit",
        "rknn-toolkit2 is not there, does not start, refused a model, crashed, or took too long or too much memory.",
        "`ort-rknn toolkit status` tries it, `ort-rknn toolkit install --force` makes it anew. What it refuses goes to the CPU by itself.",
        ("ort_rknn_converters.toolkit", "ort_rknn_converters.errors"),
    ),
    Topic(
        "Serving, and models on other machines",
        "The server is not there or refuses, an address is no address, or what came over the network is not what the model takes.",
        "The text names the address or the field. Try the server with `curl http://board:8000/v2/health/ready`.",
        ("ort_rknn.serving", "ort_rknn.remote", "ort_rknn.ray"),
    ),
    Topic(
        "A package of an extra is missing",
        "What was asked for needs more packages than running a model does.",
        "The text names the extra: `pip install 'ort-rknn[...]'`.",
        ("ort_rknn_converters.extras",),
    ),
    Topic(
        "ort-rknn bench",
        "The model, the inputs or the arguments cannot be measured.",
        "The text says what is expected.",
        ("ort_rknn.bench",),
    ),
    Topic(
        "ort-rknn check, conformance, doctor and board-test",
        "The model, the data or the machine cannot be compared as asked.",
        "The text says what is expected; [checking](checking.md) shows each command.",
        ("ort_rknn_conformance",),
    ),
)

VENDOR: tuple[tuple[str, str, str], ...] = (
    (
        "Invalid RKNN model version 6",
        "The file was made by a newer toolkit than the board's librknnrt reads.",
        "Install a librknnrt at least as new as the toolkit (`ort-rknn info` shows the file's), from"
        " `airockchip/rknn-toolkit2`, folder `rknpu2/runtime`.",
    ),
    (
        "Model version: … not match with rknn runtime version: …",
        "Toolkit and runtime are of different releases. It is a warning where the runtime is newer.",
        "Install a librknnrt at least as new as the toolkit.",
    ),
    (
        "This rknn model is for …, but current platform is …",
        "The file was compiled for another SoC.",
        "Convert for this one: `--target`. One file holds several: `--target rk3588,rk3576`.",
    ),
    (
        "failed to open rknpu module, need to insmod rknpu driver!",
        "The kernel has no `rknpu` driver, a container does not map its device nodes, or the toolkit compiles on a board whose NPU it"
        " cannot open.",
        "Use the vendor's kernel (the mainline driver `rocket` has no librknnrt). In a container map `/dev/dri`. `ort-rknn doctor` tells which.",
    ),
    (
        "failed to open rknn device!",
        "As above: no driver, no device node, or no permission on it.",
        "Add the user to the groups `video` and `render`, and log in again.",
    ),
    (
        "failed to submit",
        "The driver refused a job. Reported for cores 1 and 2 with drivers before 0.9.6.",
        "Update the kernel, or stay on core 0: option `schedule=0`.",
    ),
    (
        "Cannot allocate memory",
        "The NPU's memory is full: every context of a model needs some.",
        "Fewer contexts (`threads_per_core=1`, `performance_hint=latency`), fewer sessions, or int8.",
    ),
    (
        "rknn_set_core_mask … -13",
        "The SoC has one core and takes no mask (RK3566, RK3568, RK3562).",
        "Nothing: sessions do not ask for one there. In other programs leave the mask away.",
    ),
    (
        "Unsupported run platform",
        "rknn-toolkit-lite2 does not know the board, mostly because a container hides the device tree.",
        "Map `/proc/device-tree` (Docker: `--security-opt systempaths=unconfined`), or set `ORT_RKNN_TARGET` with device `npu`.",
    ),
    (
        "Please specify the target",
        "rknn-toolkit2 runs on a PC and was asked to use its NPU.",
        "Use a session: on a PC it simulates (`ORT_RKNN_DEVICE=simulator`).",
    ),
    (
        "Meet unsupported target type",
        "The runtime does not know an op of the file, mostly because it is older than the toolkit.",
        "Install a newer librknnrt.",
    ),
    (
        "Unkown op target: 0",
        "The compiler left an op that nobody runs.",
        "Convert with `ort-rknn convert`: such nodes stay on the CPU.",
    ),
    (
        "No matching distribution found for onnxruntime",
        "pip runs on 32-bit ARM, musl or Android, for which onnxruntime has no wheels.",
        "Use a 64-bit system with glibc. RV1103 and RV1106 take compiled code by the vendor's C interface only.",
    ),
    (
        "externally-managed-environment",
        "The system's Python refuses pip.",
        "Make an environment: `python3 -m venv env && env/bin/pip install ...`.",
    ),
    (
        "module 'onnx' has no attribute 'mapping'",
        "rknn-toolkit2 beside a newer onnx than it knows.",
        "`ort-rknn toolkit install` gives it an environment of its own.",
    ),
    (
        "EP Error … Falling back to ['CPUExecutionProvider'] and retrying.",
        "onnxruntime's words: making the session failed, and it tries the CPU.",
        "The plan has the error. Bad options never end so; with `enable_fallback=0` the error is raised.",
    ),
)
"""Texts of the vendor's software, of pip and of onnxruntime that owners search for: text, cause, cure."""
