"""Everything a user can say about a conversion: one frozen, validated dataclass, and the cache key made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, field
from types import MappingProxyType
from typing import Any

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.pinned_values import pinned_text
from ort_rknn_converters.targets import DEFAULT_TARGET, TARGETS, Target, find_target
from ort_rknn_converters.util.frozen import frozen, rows_of

__all__ = ["ALGORITHMS", "KL", "LEVELS", "LIMIT", "METHODS", "METRICS", "PRECISIONS", "ConvertOptions", "any_target"]

PRECISIONS = ("fp16", "int8", "w4a16")
LIMIT = 100
"""Calibration samples that are used. Measured: ResNet-50 is no better with 50 than with 10; a hundred costs it half a
minute."""

ALGORITHMS = ("normal", "mmse", "kl_divergence")
KL = "kl"
"""What people call the last one."""
METRICS = ("cosine", "rel-rms", "top1")

METHODS = ("channel", "layer", "group", *(f"group{size}" for size in range(32, 257, 32)))

ALIASES: Mapping[str, str] = {
    "algorithm": "quantized_algorithm",
    "method": "quantized_method",
    "timeout": "timeout_s",
    "compile_timeout_s": "timeout_s",
}
"""Other names of options: the command's words, and that of sessions for the one that is shorter here."""

LEVELS = (0, 1, 2, 3)
_LARGEST = 1 << 63  # of a whole number: no size, time or count is larger
_NOT_IN_KEY = frozenset({"jobs", "max_memory", "timeout_s"})


def any_target(precision: str) -> str:
    """Returns a SoC that has a precision, the usual one if it can: for checks before the SoC is known."""
    asked = {"w4a16", "int8"} & {precision}
    return next(name for name, soc in TARGETS.items() if all(getattr(soc, one) for one in asked))


def _one_of(allowed: tuple[Any, ...], default: Any) -> Any:
    """Declares a field that takes a few values only; :meth:`ConvertOptions.allowed` gives them."""
    return field(default=default, metadata={"allowed": allowed})


@frozen
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        target: SoC the NPU code is for; aliases and any case are accepted, the table's own name is kept. Default: the
            SoC most boards carry.
        precision: ``fp16``, ``int8`` or ``w4a16`` (4-bit weights, 16-bit activations). Default: what needs no
            calibration data. Models that are quantized already (QDQ) are taken as they are.
        calibration: What ``int8`` and ``w4a16`` are calibrated on: path of a folder of ``.npy``, ``.npz`` or images, of
            one such file or of a ``.txt`` that lists them, a list of {input name: array}, or one such mapping with a
            leading sample axis.
        calibration_limit: Samples used at most, evenly spaced. Default: 100 (measured: ResNet-50 is no better with 50
            than with 10).
        preprocess: How calibration images become inputs, e.g. ``224x224,mean=123.7:116.3:103.5,std=58.4,rgb,nchw``.
            Default: the input's own size, 0 to 1, RGB.
        quantized_algorithm: ``normal``, ``mmse`` (12 times slower, measured) or ``kl_divergence`` (``kl`` for short).
            Default: the vendor's.
        quantized_method: ``channel`` or ``layer``; for ``w4a16`` also ``group`` (of 32 weights) or ``group32`` to
            ``group256``. Default: the vendor's.
        max_loss: Error of ``int8`` that is accepted, in terms of ``metric``; layers become fp16 until it holds.
            Default: whatever plain ``int8`` gives.
        metric: ``cosine`` (1 minus the cosine similarity to ONNX Runtime's outputs), ``rel-rms`` (relative RMS error)
            or ``top1`` (share of samples whose largest output is another one). Default: the vendor's.
        shapes: Fixed dimensions of graph inputs, input name -> dims. Default: those of the model.
        dims: Values of symbolic dimensions, name -> size. Default: none.
        values: Values of inputs that are taken for constants, name -> number, truth value or nested lists: shapes and
            branches that hang on them become known. A session runs calls with other values on the CPU. Default: none.
        cpu_ops: Op types that must stay on the CPU. Default: none.
        cpu_nodes: Node names that must stay on the CPU. Default: none.
        npu_only: Make any node left on the CPU an error. Default: no, as onnxruntime does without
            ``session.disable_cpu_ep_fallback``.
        strict_numbers: Make it an error when the whole compiled model is off by more than the tolerance. Default: no, a
            warning says by how much.
        min_gain: How many times faster than on the CPU a segment must be estimated to be; 0 turns the cost rule off.
            Default: 1.0, the break-even.
        optimization_level: The toolkit's own graph passes, 0 (none) to 3 (all). Default: the vendor's.
        disable_rules: Graph rules of the toolkit that are switched off for the whole model, by name, e.g.
            ``fuse_sigmoid_mul_to_exswish``. Default: none; one that raises is switched off by itself where it does.
        verify_feeds: Random feeds every compiled segment is verified on. Default: 2, a guess (one feed can be lucky).
        seed: Seed of those feeds. Default: 0, so that a conversion can be repeated.
        jobs: Conversions that may run side by side. Default: 1 (each takes 8 times the weights in memory, measured).
        max_memory: Bytes of memory the compiler may take for one segment; it is ended when it takes more, and not
            started for a segment that would need more. Default: 0, what the machine has free.
        timeout_s: Seconds one segment's conversion may take. Default: 600, a guess (measured: 5 s for 25 M weights on
            a PC; a board core is several times slower).

    Raises:
        UnknownOption: A value that makes no sense, or that the SoC does not have.
        CalibrationError: Calibration data or a preprocess of no known form.
        UnknownTarget: A SoC that is not in the table.
    """

    target: str = DEFAULT_TARGET
    precision: str = _one_of(PRECISIONS, "fp16")
    calibration: Any = None
    calibration_limit: int = LIMIT
    preprocess: str = ""
    quantized_algorithm: str = _one_of(ALGORITHMS, "normal")
    quantized_method: str = _one_of(METHODS, "channel")
    max_loss: float | None = None
    metric: str = _one_of(METRICS, "cosine")
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    cpu_ops: frozenset[str] = frozenset()
    cpu_nodes: frozenset[str] = frozenset()
    npu_only: bool = False
    strict_numbers: bool = False
    min_gain: float = 1.0
    optimization_level: int = _one_of(LEVELS, 3)
    disable_rules: frozenset[str] = frozenset()
    verify_feeds: int = 2
    seed: int = 0
    jobs: int = 1
    max_memory: int = 0
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        self._set("target", find_target(self.target).name)

        if self.quantized_algorithm == KL:
            self._set("quantized_algorithm", "kl_divergence")
        for option in self.names():
            allowed = self.allowed(option)
            if allowed and getattr(self, option) not in allowed:
                listed = ", ".join(map(str, allowed))
                raise UnknownOption(f"{option} is one of {listed}, not {getattr(self, option)!r}")
        self._check_quantization(find_target(self.target))

        for option in ("shapes", "dims", "values"):
            if not isinstance(getattr(self, option), Mapping):
                raise UnknownOption(f"{option} is a mapping of names, not {getattr(self, option)!r}")
        self._set("shapes", MappingProxyType({str(name): _dims(name, dims) for name, dims in self.shapes.items()}))
        self._set("dims", MappingProxyType({str(name): _size(f"dims[{name!r}]", n) for name, n in self.dims.items()}))
        pinned = {str(name): pinned_text(str(name), value) for name, value in self.values.items()}
        self._set("values", MappingProxyType(pinned))
        self._set("cpu_ops", _names("cpu_ops", self.cpu_ops))
        self._set("cpu_nodes", _names("cpu_nodes", self.cpu_nodes))

        if not _is_number(self.min_gain) or not 0 <= self.min_gain < float("inf"):
            raise UnknownOption(f"min_gain is a number from 0 (cost rule off) up, not {self.min_gain!r}")
        self._set("min_gain", float(self.min_gain))
        self._set("disable_rules", _names("disable_rules", self.disable_rules))
        if not _is_whole(self.verify_feeds) or self.verify_feeds < 0:
            raise UnknownOption(f"verify_feeds is a whole number from 0 up, not {self.verify_feeds!r}")
        if not _is_whole(self.seed) or self.seed < 0:
            raise UnknownOption(f"seed is a whole number from 0 up, not {self.seed!r}")
        if not _is_whole(self.jobs) or self.jobs < 1:
            raise UnknownOption(f"jobs is a whole number from 1 up, not {self.jobs!r}")
        if not _is_whole(self.max_memory) or self.max_memory < 0:
            raise UnknownOption(f"max_memory is a number of bytes, or 0 for what is free, not {self.max_memory!r}")
        if not _is_number(self.timeout_s) or not self.timeout_s > 0:
            raise UnknownOption(f"timeout_s is a number of seconds above 0, not {self.timeout_s!r}")
        self._set("timeout_s", float(self.timeout_s))

    def _check_quantization(self, target: Target) -> None:
        if self.precision == "w4a16" and not target.w4a16:
            having = ", ".join(name for name, soc in TARGETS.items() if soc.w4a16)
            raise UnknownOption(f"precision w4a16 is not for {target.name}; the toolkit has it for {having}")
        if self.precision == "int8" and not target.int8:
            raise UnknownOption(f"precision int8 is not for {target.name}: the toolkit refuses it there")
        if self.calibration is not None:
            from ort_rknn_converters.calibration_source import calibration_source  # not at every start of a session

            self._set("calibration", calibration_source(self.calibration))
        if not _is_whole(self.calibration_limit) or self.calibration_limit < 1:
            raise UnknownOption(f"calibration_limit is a whole number from 1 up, not {self.calibration_limit!r}")
        if self.preprocess:
            from ort_rknn_converters.calibration_source import Preprocess

            Preprocess.parse(self.preprocess)
        if self.quantized_method.startswith("group") and self.precision != "w4a16":
            raise UnknownOption(f"quantized_method {self.quantized_method} is for precision w4a16 only")
        if self.max_loss is not None:
            if not _is_number(self.max_loss) or not 0 <= self.max_loss < float("inf"):
                raise UnknownOption(f"max_loss is a number from 0 up, not {self.max_loss!r}")
            if self.precision != "int8":
                raise UnknownOption(f"max_loss is for precision int8, not {self.precision}")
            self._set("max_loss", float(self.max_loss))

    @property
    def quantized(self) -> bool:
        """Whether the toolkit is to quantize."""
        return self.precision != "fp16"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The options there are, in the order of declaration."""
        return tuple(rows_of(cls))

    @classmethod
    def allowed(cls, name: str) -> tuple[Any, ...]:
        """Returns the values that an option takes; empty where they cannot be listed."""
        row = rows_of(cls)[name]
        return tuple(row.metadata.get("allowed", ())) if isinstance(row, Field) else ()

    @classmethod
    def docs(cls) -> dict[str, str]:
        """Returns the sentences that describe each option, as the class's own documentation has them."""
        found: dict[str, str] = {}
        name = ""
        for line in (cls.__doc__ or "").partition("Attributes:\n")[2].splitlines():
            head, colon, rest = line.strip().partition(": ")
            if colon and head in cls.names() and line.startswith(" " * 8 + head):
                name, found[head] = head, rest
            elif not line.strip():
                break
            elif name:
                found[name] += f" {line.strip()}"
        return found

    @classmethod
    def check_names(cls, names: Iterable[str], where: str = "") -> None:
        """Refuse names that are no options, with the list of the known.

        Args:
            names: What somebody wants to set.
            where: What the message begins with.

        Raises:
            UnknownOption: One of them is no option.
        """
        if unknown := sorted(set(names) - set(cls.names())):
            raise UnknownOption(f"{where}unknown option {', '.join(unknown)}. Known options: {', '.join(cls.names())}")

    @classmethod
    def of(cls, **values: Any) -> ConvertOptions:
        """Build the options from keywords.

        Raises:
            UnknownOption: A keyword that is no option, or a value that makes no sense.
            UnknownTarget: A SoC that is not in the table.
        """
        return cls(**cls.own_names(values))

    @classmethod
    def own_names(cls, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Returns values by the options' own names, of which some have others.

        Args:
            values: Option name, or another name of it, to value.
            where: What a message begins with.

        Raises:
            UnknownOption: A name is that of no option, or one option is named twice.
        """
        found: dict[str, Any] = {}
        for name, value in values.items():
            own = ALIASES.get(name, name)
            if own in found:
                raise UnknownOption(f"{where}{name} is another name of {own}, or the other way round: give one of them")
            found[own] = value
        cls.check_names(found, where)
        return found

    def key(self, calibration: str | None = None) -> str:
        """Canonical JSON of everything that can change the result: equal options give equal text.

        ``jobs``, ``max_memory`` and ``timeout_s`` are left out: they change only whether it succeeds, and how fast.

        Args:
            calibration: Digest of the calibration data's content; ``None`` where there are none.
        """
        import json  # not at every start of a session

        values = {name: _plain(getattr(self, name)) for name in self.names() if name not in _NOT_IN_KEY}
        values["calibration"] = calibration
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def plain(self) -> dict[str, Any]:
        """The options as JSON knows them, but for calibration data that are arrays."""
        return {name: _plain(getattr(self, name)) for name in self.names()}

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled; conversions may run in other processes.
        return (_rebuild, (self.plain(),))


def _rebuild(values: Mapping[str, Any]) -> ConvertOptions:
    return ConvertOptions(**values)


def _plain(value: Any) -> Any:
    """``value`` as JSON knows it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _names(option: str, value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UnknownOption(f"{option} is a collection of names, not {value!r}")
    return frozenset(str(name) for name in value)


def _dims(name: str, dims: Iterable[int]) -> tuple[int, ...]:
    if isinstance(dims, str) or not isinstance(dims, Iterable):
        raise UnknownOption(f"shapes[{name!r}] is a sequence of dimensions, not {dims!r}")
    return tuple(_size(f"shapes[{name!r}]", size) for size in dims)


def _size(what: str, size: Any) -> int:
    # numpy integers count; True does not.
    if not hasattr(size, "__index__") or isinstance(size, bool) or not 0 <= int(size) < _LARGEST:
        raise UnknownOption(f"{what}: a dimension is a whole number from 0 up, not {size!r}")
    return int(size)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float)
