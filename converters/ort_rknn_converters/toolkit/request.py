"""Requests to the toolkit, and their form on disk for the child process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.onnx_file.blobs import Buffer
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.model_io import GraphIO
from ort_rknn_converters.util.frozen import frozen

__all__ = ["OPTIONS", "PRECISIONS", "CompileRequest", "write_feeds", "write_job"]

FEEDS = "feeds.json"

PRECISIONS: Mapping[str, str | None] = {
    "fp16": None,
    "int8": "w8a8",
    "w8a8": "w8a8",
    "w4a16": "w4a16",
    "w8a16": "w8a16",
    "int16": "w16a16i_dfp",
}
"""Our names of precisions, and the toolkit's ``quantized_dtype`` (None: the model is not quantized)."""

CONFIG_OPTIONS = frozenset(
    {
        "quantized_dtype",
        "quantized_algorithm",
        "quantized_method",
        "quantized_hybrid_level",
        "auto_hybrid_cos_thresh",
        "auto_hybrid_euc_thresh",
        "disable_rules",
        "dynamic_input",
        "op_target",
        "single_core_mode",
        "compress_weight",
        "model_pruning",
        "sparse_infer",
        "enable_flash_attention",
        "memory_plan_strategy",
        "compute_order",
    }
)
BUILD_OPTIONS = frozenset({"do_quantization", "auto_hybrid"})
OPTIONS = CONFIG_OPTIONS | BUILD_OPTIONS | {"dataset", "float16", "analyse"}
"""Every key ``CompileRequest.options`` takes; the last three are ours, all others the toolkit's own keywords."""


@frozen
class CompileRequest:
    """One segment to compile.

    Attributes:
        model: The lowered ONNX model, serialized.
        target: A SoC of :data:`ort_rknn_converters.targets.TARGETS`.
        precision: A key of :data:`PRECISIONS`.
        feeds: Input name -> array, in the dtypes and shapes of the lowered model (4-D in NCHW); each is run on the
            toolkit's simulator. Their arrays are not looked at before the toolkit has begun.
        optimization_level: The toolkit's graph passes, 0 to 3 (3 is the vendor's default).
        custom_string: Kept in the file as it is; under 1 kB, because the runtime's query has room for no more.
        weights: Bytes that follow ``model`` in its file: further chunks of the same protobuf message, so that large
            weights need not be copied into one string. Iterated once a compilation.
        options: More of the toolkit's keywords, see :data:`OPTIONS`. ``dataset`` is a sequence of feeds to calibrate
            the quantization on (4-D in NCHW); ``float16`` names values whose layers stay float16 in a quantized model.
            ``analyse`` is a feed for the vendor's accuracy analysis.
    """

    model: bytes
    target: str
    precision: str = "fp16"
    feeds: Sequence[Mapping[str, NDArray[Any]]] = ()
    optimization_level: int = 3
    custom_string: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Iterable[Buffer] = ()

    def __post_init__(self) -> None:
        """Refuse what the toolkit would only refuse after a long time.

        Raises:
            UnknownTarget: No such SoC.
            UnknownOption: No such precision or option, or quantization without data.
        """
        find_target(self.target)
        if self.precision not in PRECISIONS:
            raise UnknownOption(f"unknown precision {self.precision!r}. Known: {', '.join(PRECISIONS)}")
        unknown = sorted(set(self.options) - OPTIONS)
        if unknown:
            raise UnknownOption(
                f"unknown option(s) for the toolkit: {', '.join(unknown)}. Known: {', '.join(sorted(OPTIONS))}"
            )
        if self.quantized and not self.options.get("dataset"):
            raise UnknownOption(f"precision {self.precision} needs calibration data: give options['dataset']")

    @property
    def quantized(self) -> bool:
        """Whether the toolkit is asked to quantize."""
        return bool(self.options.get("do_quantization", PRECISIONS[self.precision] is not None))


def _save(directory: Path, folder: str, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> list[dict[str, str]]:
    """Write each array as a file of its own; returns input name -> path relative to ``directory``, per feed."""
    if feeds:
        (directory / folder).mkdir()
    saved = []
    for number, feed in enumerate(feeds):
        files = {}
        for position, (name, array) in enumerate(feed.items()):
            files[name] = f"{folder}/{number}_{position}.npy"
            np.save(directory / files[name], array, allow_pickle=False)
        saved.append(files)
    return saved


def _dataset(directory: Path, feeds: Sequence[Mapping[str, NDArray[Any]]], io: GraphIO) -> str:
    """Write the calibration data and the toolkit's list of it: one sample a line, inputs in the model's order."""
    names = [value.name for value in io.inputs]
    for number, feed in enumerate(feeds):
        missing = [name for name in names if name not in feed]
        if missing:
            raise UnknownOption(f"calibration sample {number} lacks the input(s) {', '.join(missing)}")
    lines = (" ".join(files[name] for name in names) for files in _save(directory, "calibration", feeds))
    (directory / "dataset.txt").write_text("\n".join(lines) + "\n")
    return "dataset.txt"


def _float16(request: CompileRequest) -> dict[str, list[str]] | None:
    """Names of the values whose layers stay float16, and of the model's other ones, which some of them may begin."""
    layers = set(request.options.get("float16", ()))
    if not layers:
        return None
    import onnx

    graph = onnx.load_model_from_string(request.model).graph
    values = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    # Parts of a layer may be called after its node.
    layers |= {node.name for node in graph.node if node.name not in values and layers & set(node.output)}
    return {"layers": sorted(layers), "others": sorted(values - layers)}


def write_job(request: CompileRequest, io: GraphIO, directory: Path, *, nice: int = 0) -> None:
    """Put the model, ``job.json`` and all arrays but the feeds into ``directory``.

    Raises:
        UnknownOption: Calibration data that lack an input.
        OSError: The directory cannot be written, or the disk is full.
    """
    with (directory / "model.onnx").open("wb") as file:
        file.write(request.model)
        file.writelines(request.weights)
    config = {key: value for key, value in request.options.items() if key in CONFIG_OPTIONS}
    config["target_platform"] = find_target(request.target).name
    config["optimization_level"] = request.optimization_level
    if request.custom_string is not None:
        config["custom_string"] = request.custom_string
    build = {key: value for key, value in request.options.items() if key in BUILD_OPTIONS}
    build["do_quantization"] = request.quantized
    dtype = PRECISIONS[request.precision]
    if request.quantized and dtype is not None:
        config.setdefault("quantized_dtype", dtype)
    if request.options.get("dataset"):
        build["dataset"] = _dataset(directory, request.options["dataset"], io)
    job = {
        "model": "model.onnx",
        "rknn": "model.rknn",
        "config": config,
        "build": build,
        "float16": _float16(request),
        "feeds": FEEDS if request.feeds else "",
        "analyse": (
            _save(directory, "analysed", [request.options["analyse"]])[0] if "analyse" in request.options else {}
        ),
        "nice": nice,
    }
    (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")


def write_feeds(request: CompileRequest, directory: Path) -> None:
    """Put the feeds into ``directory``; the worker looks for them when it has something to simulate.

    Raises:
        OSError: The directory cannot be written, or the disk is full.
    """
    if request.feeds:
        saved = json.dumps(_save(directory, "feeds", request.feeds))
        part = directory / f"{FEEDS}.part"
        part.write_text(saved, encoding="utf-8")
        part.replace(directory / FEEDS)
