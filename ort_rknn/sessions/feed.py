"""From what a caller feeds to what the engine takes: checked, C-contiguous arrays of exactly the declared types.

The common feed (arrays of the right type and shape) is checked here in a few microseconds. Anything else is first
given to onnxruntime itself: a native session of the model's *stub*, which has the real inputs and outputs and no
computation, judges names, types, shapes, requested outputs and run options with onnxruntime's own words. What it
accepts (lists, OrtValues, other memory layouts ...) is then converted, by onnxruntime too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ort_rknn.ort_conventions import numpy_dtype
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Checked", "FeedChecker", "InputSpec", "ValueConverter"]


@frozen
class InputSpec:
    """Type and shape that an input takes.

    Attributes:
        type: onnxruntime's type string.
        dtype: numpy's dtype, or ``None``.
        dims: One entry per dimension, ``None`` where any size is taken; ``None`` when the shape is not checked at all
            (scalars and unknown ranks, which onnxruntime does not tell apart).
    """

    type: str
    dtype: np.dtype[Any] | None
    dims: tuple[int | None, ...] | None

    @classmethod
    def of(cls, argument: Any) -> InputSpec:
        """The spec of one of onnxruntime's ``NodeArg`` objects."""
        dims = tuple(dim if isinstance(dim, int) else None for dim in argument.shape)
        return cls(argument.type, numpy_dtype(argument.type), dims or None)

    def takes(self, array: np.ndarray[Any, Any]) -> bool:
        """Whether ``array`` is of exactly this type and shape."""
        return bool(array.dtype == self.dtype) and (array.shape == self.dims or self.fits(array.shape))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it takes this shape, as far as its declaration says."""
        if self.dims is None or shape == self.dims:
            return True
        return len(shape) == len(self.dims) and all(
            want is None or want == got for want, got in zip(self.dims, shape, strict=True)
        )


class Checked:
    """A feed the engine can trust. One is made for every call, so it is a plain class: the fastest to make.

    Attributes:
        feed: Input name to array (or whatever a non-tensor input takes).
        outputs: Names of the outputs to return, in order; may hold doubles.
        only_whole: Only onnxruntime can run it: it replaces an initializer that was compiled in, or lacks an input.
    """

    __slots__ = ("feed", "only_whole", "outputs")

    def __init__(self, feed: dict[str, Any], outputs: list[str], only_whole: bool = False) -> None:
        self.feed = feed
        self.outputs = outputs
        self.only_whole = only_whole


class FeedChecker:
    """Checks one session's feeds.

    Args:
        inputs: onnxruntime's ``NodeArg`` objects of the inputs.
        outputs: The same for the outputs.
        overridable: The same for the initializers a caller may replace.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        overridable: Sequence[Any],
    ) -> None:
        self._inputs = {argument.name: InputSpec.of(argument) for argument in inputs}
        self._overridable = {argument.name: InputSpec.of(argument) for argument in overridable}
        self._outputs = frozenset(argument.name for argument in outputs)
        self._required = frozenset(name for name, spec in self._inputs.items() if not spec.type.startswith("optional"))
        self._converter = ValueConverter({**self._inputs, **self._overridable})

    def check(
        self,
        output_names: Any,
        feed: Mapping[str, Any],
        run_options: Any,
        validate_on_stub: Callable[[Any, Any, Any], Any],
    ) -> Checked:
        """Check one call.

        Args:
            output_names: As given to ``run``.
            feed: As given to ``run``.
            run_options: As given to ``run``.
            validate_on_stub: Runs the stub natively: ``validate_on_stub(output_names, feed, run_options)`` raises what
                onnxruntime raises.

        Raises:
            Exception: What onnxruntime raises for the same call, class and text.
        """
        arrays = self.common(output_names, feed) if run_options is None else None
        if arrays is not None:
            return Checked(arrays, output_names)
        return self._slow(output_names, feed, run_options, validate_on_stub)

    def common(self, output_names: Any, feed: Any) -> dict[str, Any] | None:
        """The arrays when every value is one of the right type and shape; ``None`` when anything is unusual."""
        # What else there is than lists and dictionaries, releases disagree on.
        if type(output_names) is not list or not isinstance(feed, dict) or not self._outputs.issuperset(output_names):
            return None
        arrays = {}
        inputs = self._inputs
        for name, value in feed.items():
            spec = inputs.get(name)
            if spec is None or not isinstance(value, np.ndarray):
                return None
            if (value.shape != spec.dims and not spec.fits(value.shape)) or value.dtype != spec.dtype:
                return None
            flags = value.flags
            arrays[name] = (
                value if type(value) is np.ndarray and flags.c_contiguous and flags.aligned else _plain(value)
            )
        return arrays if arrays.keys() >= self._required else None

    def _slow(
        self, output_names: Any, feed: Mapping[str, Any], run_options: Any, validate_on_stub: Callable[..., Any]
    ) -> Checked:
        if not isinstance(output_names, (list, tuple, str)) and hasattr(output_names, "send"):
            output_names = list(output_names)  # a generator can be read only once, and is judged as one
            validate_on_stub((name for name in output_names), feed, run_options)
        else:
            validate_on_stub(output_names, feed, run_options)

        feed = {name: _native_order(value) for name, value in feed.items()}
        arrays: dict[str, Any] = {}
        foreign: dict[str, Any] = {}
        for name, value in feed.items():
            if value is None and name in self._required:
                continue
            spec = self._inputs.get(name) or self._overridable[name]
            converted = _array(value, spec)
            if converted is None and spec.type.startswith(("tensor", "seq", "optional")):
                foreign[name] = value
            else:
                arrays[name] = value if converted is None else converted
        if foreign:
            arrays |= self._converter.convert(foreign)
        # What the stub accepts and the model does not have (``None`` for a tensor), its nodes complain of.
        only_whole = any(name in self._overridable for name in arrays) or not arrays.keys() >= self._required
        return Checked(arrays, [str(name) for name in output_names], only_whole)


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array itself where the engine can read its memory as it is, else a copy in C order."""
    flags = array.flags
    if type(array) is np.ndarray and flags.c_contiguous and flags.aligned:
        return array
    return np.array(array, order="C", copy=True, subok=False)


def _native_order(value: Any) -> Any:
    """Arrays of the other byte order are converted: onnxruntime would read them wrongly without a word."""
    if isinstance(value, np.ndarray) and not value.dtype.isnative and value.dtype.kind in "iufc":
        return value.astype(value.dtype.newbyteorder("="))
    return value


def _array(value: Any, spec: InputSpec) -> Any:
    """``value`` as the engine takes it, or ``None`` when onnxruntime has to convert it."""
    if isinstance(value, np.ndarray):
        if spec.dtype is not None:
            return _plain(value)
        return value if spec.type == "tensor(string)" else None
    from ort_rknn.ort_private.values import is_tensor, unpacked  # most programs feed arrays

    native = unpacked(value)
    if native is None:
        return None
    return np.asarray(native.numpy()) if spec.dtype is not None and is_tensor(native) else value


_IR_VERSION, _OPSET = 8, 16  # the first opset whose Identity takes optionals
_SUFFIX = ".echo"


class _Typed(Protocol):
    @property
    def type(self) -> str:
        """The type as onnxruntime writes it."""


class ValueConverter:
    """Converts what onnxruntime accepts for an input (nested lists, OrtValues, dictionaries ...) to plain values.

    Args:
        inputs: Input name to something with onnxruntime's type string.
    """

    def __init__(self, inputs: Mapping[str, _Typed]) -> None:
        self._types = {name: spec.type for name, spec in inputs.items()}
        self._sessions: dict[frozenset[str], Any] = {}
        self._lock = threading.Lock()

    def convert(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """The values as arrays (or lists, dictionaries, ``None``), of the types the inputs declare."""
        names = list(feed)
        values = self._session(frozenset(names)).run([name + _SUFFIX for name in names], feed)
        return dict(zip(names, values, strict=True))

    def _session(self, names: frozenset[str]) -> Any:
        with self._lock:
            if names not in self._sessions:
                self._sessions[names] = _open({name: self._types[name] for name in sorted(names)})
            return self._sessions[names]


def _open(types: Mapping[str, str]) -> Any:
    from ort_rknn.ort_private.own import public
    from ort_rknn_converters.onnx_file.schema import helper

    options = public("SessionOptions")()
    options.intra_op_num_threads = 1
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [name + _SUFFIX]) for name in types],
        "echo",
        [helper.make_value_info(name, _type_proto(text)) for name, text in types.items()],
        [helper.make_value_info(name + _SUFFIX, _type_proto(text)) for name, text in types.items()],
    )
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    return public("InferenceSession")(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _type_proto(text: str) -> Any:
    """The ONNX type of one of onnxruntime's strings, e.g. ``optional(seq(tensor(float)))``."""
    from ort_rknn_converters.onnx_file.schema import TensorProto, helper

    match = re.fullmatch(r"(\w+)\((.*)\)", text)
    if match is None:
        raise ValueError(f"no ONNX type is written {text!r}")
    kind, inner = match.groups()
    if kind == "seq":
        return helper.make_sequence_type_proto(_type_proto(inner))
    if kind == "optional":
        return helper.make_optional_type_proto(_type_proto(inner))
    return helper.make_tensor_type_proto(TensorProto.DataType.Value(inner.upper()), None)
