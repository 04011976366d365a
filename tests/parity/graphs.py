"""Cases: models of unusual form, as random models showed them: what is said of them, and what they give."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import onnx

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, case, cases

X = np.array([[1, 2], [3, -4]], np.float32)

MODELS = {
    "function": """<ir_version: 9, opset_import: ["" : 19, "my.fn" : 1]>
        g (float[2,2] x) => (float[Q,2] y, float[] z) { y = my.fn.Twice (x)  z = Relu (y) }
        <domain: "my.fn", opset_import: ["" : 19]> Twice (a) => (b) { b = Add (a, a) }""",
    "optional_output": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] y, optional(tensor(float)) o) { y = Relu (x)  o = Optional (x) }""",
    "sequence_output": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] y, seq(float) s) { y = Relu (x)  s = SequenceConstruct (y, x) }""",
    "names_of_dimensions": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[Q,R] y, float[Q,?] z) { y = Relu (x)  z = Neg (x) }""",
    "input_as_output": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] y, float[2,2] x) { y = Relu (x) }""",
    "empty_dimension": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x, float[0,2] e) => (float[2,2] y, float[0,2] f) { y = Relu (x)  f = Neg (e) }""",
    "nothing_for_an_npu": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (int64[2,?] y) { y = NonZero (x) }""",
    "names_with_marks": """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] "X:0", float[2,2] "data/in 1") => (float[2,2] "y:0") { "y:0" = Add ("X:0", "data/in 1") }""",
    "old_opset": """<ir_version: 3, opset_import: ["" : 7]>
        g (float[2,2] x) => (float y)
        { z = Relu (x)  y = ReduceMax <axes: ints = [0, 1], keepdims: int = 0> (z) }""",
}


def parsed(text: str) -> bytes:
    """A model that no cache has seen."""
    made = onnx.parser.parse_model(text)
    made.metadata_props.add(key="unique", value=uuid.uuid4().hex)
    content: bytes = made.SerializeToString()
    return content


def _feed(session: Any) -> dict[str, Any]:
    return {value.name: X[: value.shape[0]] for value in session.get_inputs()}


def _shown(text: str) -> Any:
    def run(t: Bench) -> Any:
        session = t.open(parsed(text))
        options = session.get_session_options()
        return [[str(value) for value in (*session.get_inputs(), *session.get_outputs())], options.intra_op_num_threads]

    return run


def _run(text: str, repeat: int) -> Any:
    def run(t: Bench) -> Any:
        session = t.open(parsed(text))
        names = [value.name for value in session.get_outputs()]
        return session.run(names * repeat, _feed(session))

    return run


def _values(text: str) -> Any:
    def run(t: Bench) -> Any:
        session = t.open(parsed(text))
        feed = {name: t.ort.OrtValue.ortvalue_from_numpy(array) for name, array in _feed(session).items()}
        return [[value.data_type(), value.numpy()] for value in session.run_with_ort_values(None, feed)]

    return run


cases("graph-shown", {name: _shown(text) for name, text in MODELS.items()})
cases("graph-run", {name: _run(text, 1) for name, text in MODELS.items()})
cases("graph-twice", {name: _run(text, 2) for name, text in MODELS.items()})
cases("graph-values", {name: _values(text) for name, text in MODELS.items()})


def _pinned(text: str) -> Any:
    def run(t: Bench) -> Any:
        options = t.ort.SessionOptions()
        options.add_free_dimension_override_by_name("N", 2)
        session = t.open(parsed(text), options)
        return [
            [str(value) for value in (*session.get_inputs(), *session.get_outputs())],
            session.run(None, _all(session)),
        ]

    return run


def _all(session: Any) -> dict[str, Any]:
    return {value.name: X for value in session.get_inputs()}


PINNED = {
    "same_name": "g (float[N,2] x) => (float[N,2] y) { y = Relu (x) }",
    "inferred": "g (float[N,2] x) => (float[] y) { y = Relu (x) }",
    "unknown": "g (float[N,2] x) => (float[?,2] y) { y = Relu (x) }",
    "other_name": "g (float[N,2] x) => (float[Q,2] y) { y = Relu (x) }",
    "two_names": "g (float[N,2] x, float[M,2] w) => (float[Q,2] y, float[R,2] z) { y = Relu (x)  z = Neg (w) }",
}
cases(
    "graph-pinned", {name: _pinned(f'<ir_version: 8, opset_import: ["" : 17]> {text}') for name, text in PINNED.items()}
)


@case
def values_of_wrong_names(t: Bench) -> Any:
    feed = {name: t.ort.OrtValue.ortvalue_from_numpy(X) for name in "AB"}
    t.open(model("two")).run_with_ort_values(iter(["Y"]), feed)


@case
def node_without_a_name_fails(t: Bench) -> Any:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x, int64[5] k, int64[1] i) => (int64[1] y, float[2,2] z) { z = Relu (x)  y = Gather (k, i) }"""
    t.open(parsed(text)).run(None, {"x": X, "k": np.arange(5), "i": np.array([9], np.int64)})
