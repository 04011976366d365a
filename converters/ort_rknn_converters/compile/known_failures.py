"""Failures of single nodes, kept in a file so that the next model starts wiser.

A known failure belongs to a node's signature (op, attributes, types and shapes, small constants), a SoC with its
precision, and the versions of the toolkit and of the conversion: a new one of either may do what the old one could not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ort_rknn_converters.graph.onnx_graph import constant, dims, type_string
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util.file_lock import held
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import make_private, read_own
from ort_rknn_converters.util.plain_data import TEXT, Misshapen, by_name, parse_json
from ort_rknn_converters.util.user_dirs import KNOWN_FAILURES
from ort_rknn_converters.version import CONVERTER

__all__ = ["KnownFailures", "signature", "unsigned"]

_FORMAT = 1
_MOST = 1 << 26
"""Bytes of the file. A guess: a reason takes 150, so this is for half a million nodes."""
_SMALL_CONSTANT = 64
"""Elements up to which a constant is part of the signature: shapes, axes, scales; not weights. A guess."""
_LOCK_S = 10.0
"""Longest wait for another process that writes. A guess: writing takes milliseconds."""


_SECTIONS = by_name(by_name(by_name(TEXT)))


def _FORM(value: Any) -> None:
    if type(value) is not dict or value.get("format") != _FORMAT:
        raise Misshapen("it is of another layout")
    _SECTIONS({name: section for name, section in value.items() if name != "format"})


class KnownFailures:
    """The file, for one SoC, precision and toolkit version."""

    def __init__(self, directory: Path | None, options: ConvertOptions, toolkit_version: str | None) -> None:
        self._file = None if directory is None or not toolkit_version else directory / KNOWN_FAILURES
        how = "/".join(
            (options.target, options.precision, str(options.optimization_level), *sorted(options.disable_rules))
        )
        self._path = (toolkit_version or "", f"{how}/converter {CONVERTER}")

    def recall(self, model: ir.Model) -> dict[str, str]:
        """Node name -> reason, for the nodes of a prepared model that are known to fail."""
        known = self._section(self._read())
        if not known:
            return {}
        found = ((node.name or "", known.get(signature(node, model))) for node in model.graph)
        return {name: reason for name, reason in found if reason}

    def remember(self, model: ir.Model, reasons: Mapping[str, str], names: Iterable[str]) -> None:
        """Write down why nodes fail. Failing to write is no error: then the next model learns again.

        Args:
            model: The prepared model.
            reasons: Node name -> reason.
            names: Those that would fail in any other model, too.
        """
        wanted = set(names)
        learned = {signature(n, model): reasons[n.name] for n in model.graph if n.name in wanted and n.name in reasons}
        if self._file is None or not learned:
            return
        try:
            make_private(self._file.parent)
            with held(self._file.with_name(f"{KNOWN_FAILURES}.lock"), timeout=_LOCK_S):
                content = self._read()
                self._section(content, make=True).update(learned)
                _replace(self._file, json.dumps(content, indent=1))
        except OSError as error:  # a time-out is one, too
            logger().debug("known failures were not written: %s", error)

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"format": _FORMAT}
        if self._file is None:
            return empty
        try:
            content: dict[str, Any] = parse_json(read_own(self._file, _MOST), _FORM)
        except (OSError, ValueError):
            return empty
        return content

    def _section(self, content: dict[str, Any], *, make: bool = False) -> dict[str, str]:
        section: Any = content
        for key in self._path:
            inner = section.setdefault(key, {}) if make else section.get(key)
            if not isinstance(inner, dict):
                return {}
            section = inner
        return dict(section) if not make else section


def signature(node: ir.Node, model: ir.Model, *, contents: bool = True) -> str:
    """Identifies a node as the compiler sees it: equal for nodes the compiler cannot tell apart.

    Args:
        node: The node.
        model: Its model.
        contents: Whether small constants count by their values, else only by type and shape.
    """
    attributes = sorted((name, _attribute(attribute)) for name, attribute in node.attributes.items())
    inputs = [
        None if value is None else [type_string(value.type), dims(value), _content(value) if contents else None]
        for value in node.inputs
    ]
    outputs = [[type_string(value.type), dims(value)] for value in node.outputs]
    opset = model.opset_imports.get(node.domain, 0)
    text = json.dumps([node.domain, node.op_type, opset, attributes, inputs, outputs])
    return f"{node.op_type}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def unsigned(part: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants of a part whose values its nodes' signatures do not hold: the weights."""
    return [tensor for tensor in part.graph.initializer if math.prod(tensor.dims) > _SMALL_CONSTANT]


def _attribute(attribute: ir.Attr) -> str:
    return hashlib.sha256(ir.serde.serialize_attribute(attribute).SerializeToString(deterministic=True)).hexdigest()


def _content(value: ir.Value) -> str | None:
    tensor = constant(value)
    if tensor is None:
        return None
    return hashlib.sha256(tensor.tobytes()).hexdigest() if tensor.size <= _SMALL_CONSTANT else "constant"


def _replace(file: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)
