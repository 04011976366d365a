"""Sessions of models on other machines where onnxruntime is not installed: numpy is all they need here.

The verbs are those of a session with onnxruntime; missing are its own objects (options, bindings, ``OrtValue``). The
server judges feeds, in onnxruntime's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ort_rknn.api.async_methods import AsyncMethods
from ort_rknn.engine.submission import Submission
from ort_rknn.errors import ClosedSession
from ort_rknn.remote.address import is_address
from ort_rknn.remote.engine import address_of, remote_engine, remote_plan
from ort_rknn.remote.model import RemoteModel
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.remote.outside import Argument
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["InferenceSession", "ModelMetadata"]

_HERE = "onnxruntime is not installed here, and without it a session is of a model on another machine only"


@frozen
class ModelMetadata:
    """A model's metadata, with the names of onnxruntime's ``ModelMetadata``."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)


class InferenceSession(AsyncMethods):
    """Session of a model on another machine, without onnxruntime.

    Args:
        path_or_bytes: The address: ``grpc://board:8001/model``.
        sess_options: Must be ``None``: the class is onnxruntime's.
        providers: As with onnxruntime; options of ours that mean something on this side are heeded.
        provider_options: As with onnxruntime.

    Raises:
        ImportError: The model is not on another machine.
        DeviceUnavailable: No server answers there.
        Exception: What onnxruntime raises for the model on the server.
    """

    def __init__(
        self, path_or_bytes: Any, sess_options: Any = None, providers: Any = None, provider_options: Any = None
    ) -> None:
        if not is_address(path_or_bytes) or sess_options is not None:
            raise ImportError(f"{_HERE}: pip install onnxruntime, or open grpc://board:8001/model")
        options: dict[str, Any] = {}
        for number, entry in enumerate(providers or ()):
            if isinstance(entry, tuple):
                options |= entry[1]
            elif provider_options and number < len(provider_options):
                options |= provider_options[number]
        address, timeout = address_of(path_or_bytes, options)
        self._model = RemoteModel(address, timeout)
        self._rknn_native = self._model
        numbers = {"max_queue_size", "max_callback_queue_size", "submit_timeout_ms"}
        settled = {key: int(value) if key in numbers else value for key, value in options.items()}
        self._own_engine = remote_engine(self._model, settled)

    def run(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        """Run once, on the server.

        Args:
            output_names: Which outputs; all when ``None`` or empty.
            input_feed: Input name to array.
            run_options: Not used: the class is onnxruntime's.

        Raises:
            Exception: What onnxruntime raises on the server, or that there was no answer in time.
        """
        names, feed = self._call(output_names, input_feed)
        return self._own_engine.run(feed, names, run_options)

    def run_async(
        self,
        output_names: Any,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any = None,
        run_options: Any = None,
    ) -> None:
        """Run once, later; the callback gets results, ``user_data`` and the error's text."""
        self._job(Submission(output_names, input_feed, run_options, callback=callback, user_data=user_data))

    def _submit(
        self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None, **more: Any
    ) -> InferenceJob:
        return self._job(Submission(output_names, input_feed, run_options, **more))

    submit = _submit

    def _job(self, submission: Submission) -> InferenceJob:
        names, feed = self._call(submission.output_names, submission.feed)
        return self._own_engine.accept(submission.with_feed(names, feed))

    def _call(self, output_names: Any, feed: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
        if isinstance(self._rknn_native, ClosedSession):
            self._rknn_native.refuse()
        outside = self._model.outside
        known = [argument.name for argument in (*outside.inputs, *outside.overridable)]
        missing = [
            argument.name
            for argument in outside.inputs
            if argument.name not in feed and not argument.type.startswith("optional")
        ]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(feed)}).")
        _refuse_unknown("Invalid input name: ", feed, known)
        outputs = [argument.name for argument in outside.outputs]
        if isinstance(output_names, (str, bytes)):
            raise TypeError(f"output_names must be a list of names, not {output_names!r}")
        wanted = list(output_names or outputs)
        _refuse_unknown("Invalid output name:", wanted, outputs)
        return wanted, dict.fromkeys(known) | dict(feed)

    def _engine(self) -> Engine:
        return self._own_engine

    def _existing_engine(self) -> Engine | None:
        return self._own_engine

    def get_inputs(self) -> list[Argument]:
        """The model's inputs: ``name``, ``type`` and ``shape`` of each."""
        return list(self._model.outside.inputs)

    def get_outputs(self) -> list[Argument]:
        """The model's outputs."""
        return list(self._model.outside.outputs)

    def get_overridable_initializers(self) -> list[Argument]:
        """The weights that a caller may replace."""
        return list(self._model.outside.overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """The model's metadata."""
        outside = self._model.outside
        return ModelMetadata(**outside.meta, custom_metadata_map=outside.custom)

    def get_providers(self) -> list[str]:
        """The providers of the server's session."""
        return list(self._model.outside.providers)

    @property
    def plan(self) -> Plan:
        """Plan: which node runs where and why, on the server."""
        return remote_plan(self._model)


def _refuse_unknown(text: str, given: Any, known: list[str]) -> None:
    for name in given:
        if name not in known:
            from ort_rknn.remote.without import error_class

            raise error_class("InvalidArgument")(f"[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : {text}{name}")
