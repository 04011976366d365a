"""Resolves how a model runs: is it compiled already, is there a device, is it in the cache, can it be compiled?

Whatever is in the way of the NPU becomes a sentence, and the model runs on onnxruntime's CPU provider.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.opening.choose_device import Choice, choose
from ort_rknn.opening.compile_notice import CompileNotice
from ort_rknn.opening.no_compile import demand_compiled, demand_compiled_forms, forbidden
from ort_rknn.opening.resolution import Resolution, say_once
from ort_rknn.opening.unmet_names import check_nodes, say_without_effect
from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_types.session_options import CONTEXT_PATH, WEIGHTS_FOLDER, config_entry
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.opening.dynamic_shapes import DynamicShapes
    from ort_rknn.options.table import RknnOptions
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.options import ConvertOptions

__all__ = ["convert_options", "resolve"]

_BARE_MAGIC = b"RKNN"
_EXTERNAL = b"\x0a\x08location\x12"
"""How protobuf writes the key ``location`` of a weight in a file of its own, and the tag of the value that follows."""
_HOW_TO_PIN = (
    "give its open dimensions a size by SessionOptions.add_free_dimension_override_by_name, "
    "or by the provider options shapes or dims"
)


def resolve(
    model: str | bytes,
    options: RknnOptions,
    sess_options: Any,
    *,
    device: Any = None,
    open_with_onnxruntime: Callable[[], Any],
) -> Resolution:
    """Find out how a model is to run.

    Args:
        model: Path or content.
        options: The provider options.
        sess_options: onnxruntime's session options, or ``None``.
        device: A device, or a function that makes one, instead of ``options.device``.
        open_with_onnxruntime: Opens the model with onnxruntime alone and returns the native session; raises what
            onnxruntime raises for a bad model. Called before anything is compiled, not for what was compiled before.

    Raises:
        Exception: What onnxruntime raises for this model; its ``Fail`` for a bare ``.rknn`` that nothing here runs.
    """
    head = _head(model)
    if head is None or config_entry(sess_options, "session.load_model_format").upper() == "ORT":
        return Resolution(reason="it is no ONNX file")
    wish = options.device if device is None else device
    choice = choose(wish, options.device_options())
    from ort_rknn_converters.onnx_file.protobuf_wire import is_compiled

    if head.startswith(_BARE_MAGIC):
        from ort_rknn.opening.resolve_compiled import open_bare

        return open_bare(model, options, choice)
    if is_compiled(model):
        from ort_rknn.opening.resolve_compiled import open_compiled

        say_without_effect(options)
        return open_compiled(model, choice, _folder_of_bytes(model, sess_options), asked=options.target)
    if choice.device is None:
        if wish != "cpu":
            say_once("device", f"the model runs on the CPU: {choice.reason}")
        return Resolution(target=choice.target, reason=choice.reason)
    obstacle = _obstacle(model, sess_options)
    if obstacle:
        logger().warning("the model runs on the CPU: %s", obstacle)
        return Resolution(target=choice.target, reason=obstacle)
    return _compile(model, options, sess_options, choice, open_with_onnxruntime)


def _head(model: str | bytes) -> bytes | None:
    """The first bytes, or ``None`` when there is nothing to read: onnxruntime then says what is wrong.

    Raises:
        Exception: onnxruntime's ``Fail`` for a pipe, a socket or a device.
    """
    if isinstance(model, bytes):
        return model[:16] or None
    if model.endswith(".ort"):
        return None
    from ort_rknn_converters.util.own_files import NoRegularFile, open_regular

    try:
        with open_regular(model) as file:
            return file.read(16) or None
    except NoRegularFile as error:
        if "\0" in model:
            return None
        # onnxruntime would wait at a pipe until somebody writes to it.
        raise ort_error("Fail", f"Load model from {model} failed: {error.strerror}") from None
    except OSError:
        return None


def _folder_of_bytes(model: str | bytes, sess_options: Any) -> Path | None:
    """Folder of the files of a compiled model given as bytes, if the session options name one."""
    if not isinstance(model, bytes):
        return None
    if named := config_entry(sess_options, CONTEXT_PATH):
        return Path(named).parent
    folder = config_entry(sess_options, WEIGHTS_FOLDER)
    return Path(folder) if folder else None


def _obstacle(model: str | bytes, sess_options: Any) -> str:
    """Finds what in the session options keeps the whole model on the CPU; empty when nothing does."""
    if getattr(sess_options, "_rknn_replaced_weights", None):
        return (
            "weights were replaced through SessionOptions (add_initializer, add_external_initializers...), and compiled"
            " code has its weights inside. Give the model's path, with its files beside it"
        )
    if isinstance(model, bytes) and config_entry(sess_options, WEIGHTS_FOLDER) and _EXTERNAL in model:
        return (
            f"its weights are in the folder that {WEIGHTS_FOLDER} names, which is known to onnxruntime only. Give the"
            " model's path, with its files beside it"
        )
    return ""


def _compile(
    model: str | bytes,
    options: RknnOptions,
    sess_options: Any,
    choice: Choice,
    open_with_onnxruntime: Callable[[], Any],
) -> Resolution:
    """From the cache, or by the toolkit; whatever goes wrong leaves the model on the CPU."""
    from ort_rknn_converters.cache import store
    from ort_rknn_converters.errors import CalibrationError, ToolkitMissing, UnknownOption, WrongNumbers
    from ort_rknn_converters.options import ConvertOptions

    wanted = convert_options(options, sess_options, choice.target, open_with_onnxruntime, model)
    no_compile = options.compile != "never" and forbidden(sess_options)
    if not isinstance(wanted, ConvertOptions):
        if no_compile:
            open_with_onnxruntime()
            wanted = demand_compiled_forms(model, wanted)
        check_nodes(options, model, None)
        return Resolution(None, choice.device, choice.target, from_onnx=True, dynamic=wanted)
    notice = CompileNotice(model, choice.target)
    watch = _FirstReport(open_with_onnxruntime, notice, may_compile=options.compile != "never" and not no_compile)
    try:
        with notice:
            compiled = store.load_or_convert(model, wanted, cache_dir=options.cache_dir, progress=watch)
    except _NotInTheCache:
        reason = "it is not in the cache, and the option compile says never"
        if no_compile:
            demand_compiled(model, wanted, options.cache_dir)
            reason = "no part of it is for the NPU"
    except ToolkitMissing as error:
        reason = str(error)
        say_once("toolkit", f"models run on the CPU: {reason}")
        return Resolution(target=choice.target, reason=reason)
    except WrongNumbers as error:
        raise ort_error("Fail", str(error)) from error
    except (CalibrationError, UnknownOption) as error:
        raise InvalidOption(str(error)) from None
    except Exception as error:  # a model that runs is worth more than a reason that stops it
        if watch.refusal is not None:
            raise watch.refusal from None
        reason = f"it could not be converted: {error or type(error).__name__}"
    else:
        check_nodes(options, model, compiled.plan)
        reason = "" if compiled.npu_steps else _why_all_on_cpu(compiled)
        if compiled.provisional:
            reason = said = f"{compiled.provisional}. Nothing of this is remembered: the next start tries again"
            if compiled.npu_steps:
                left = sum(len(nodes) for nodes in compiled.plan.cpu_reasons().values())
                logger().warning("%d of %d nodes run on the CPU: %s", left, len(compiled.plan.nodes), said)
                reason = ""
        if not reason:
            return Resolution(
                compiled, choice.device, choice.target, shapes=wanted.shapes, dims=wanted.dims, from_onnx=True
            )
        logger().warning("the model runs on the CPU: %s", reason)
        return Resolution(compiled, None, choice.target, reason, from_onnx=True)
    logger().warning("the model runs on the CPU: %s", reason)
    return Resolution(target=choice.target, reason=reason)


def convert_options(
    options: RknnOptions, sess_options: Any, target: str, open_with_onnxruntime: Callable[[], Any], model: str | bytes
) -> ConvertOptions | DynamicShapes:
    """Translates the user's options for the conversion; pinned dimensions come from the session options too.

    Raises:
        InvalidOption: A value that this SoC does not have, or calibration data that are not there.
    """
    from ort_rknn.opening.dynamic_shapes import read_shapes
    from ort_rknn_converters.errors import CalibrationError, UnknownOption
    from ort_rknn_converters.util.own_files import is_there

    dims = {**getattr(sess_options, "_rknn_dims", {}), **options.dims}
    try:
        convert = options.convert_options(target=target, dims=dims)
    except (CalibrationError, UnknownOption) as error:
        raise InvalidOption(str(error)) from None
    if convert.quantized and isinstance(convert.calibration, str) and not is_there(convert.calibration):
        raise InvalidOption(f"calibration names {convert.calibration}, which does not exist")
    if sess_options is None or getattr(sess_options, "_rknn_dims_known", False):
        return read_shapes(model, options, convert, None)
    # onnxruntime's own object does not say which dimensions it pins, but a session made with it shows.
    return read_shapes(
        model,
        options,
        convert,
        lambda: {argument.name: tuple(argument.shape) for argument in open_with_onnxruntime().inputs_meta},
    )


def _why_all_on_cpu(compiled: CompiledModel) -> str:
    main = compiled.plan.main_reason or "it has no node to run"
    advice = _HOW_TO_PIN if main == "dynamic shape" else "print(session.plan) shows all"
    return f"no part of it is for the NPU (mostly: {main}); {advice}"


class _NotInTheCache(Exception):
    """The model would have to be compiled, and that is not wanted."""


class _FirstReport:
    """Has onnxruntime validate the model once the first report says that the cache does not have it."""

    def __init__(self, open_with_onnxruntime: Callable[[], Any], notice: CompileNotice, *, may_compile: bool) -> None:
        self._open = open_with_onnxruntime
        self._notice = notice
        self._may_compile = may_compile
        self.refusal: Exception | None = None

    def report(self, stage: str, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Receives a report, as :class:`ort_rknn_converters.progress.Progress`."""
        if stage != "load":
            self._notice.report(stage, detail, done, total)
            return
        try:
            self._open()
        except Exception as error:
            self.refusal = error
            raise
        if not self._may_compile:
            raise _NotInTheCache
        logger().info("the model is not in the cache and is compiled now")
        self._notice.report(stage, detail, done, total)
