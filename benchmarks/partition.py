"""How long partitioning takes as graphs grow: 1,000, 3,000 and 10,000 nodes, all kinds of trouble mixed in.

``python -m benchmarks.partition`` prints a table; the limits are 1 s for 1,000 nodes and 10 s for 10,000.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition, planned_steps
from ort_rknn_converters.targets import find_target

SIZES = (1_000, 3_000, 10_000)
_SHAPE = (1, 64, 28, 28)
# Of a hundred nodes: about five that the compiler does not know, the rest it takes.
_TAKEN = ("Relu", "Sigmoid", "Tanh", "Add", "Mul", "Sub")


def residual(nodes: int, seed: int = 0) -> ir.Model:
    """A long chain with skip connections, the shape of most real networks; a refused node now and then."""
    rng = np.random.default_rng(seed)
    start = _value("x")
    made, values = [], [start]
    skip = start
    for index in range(nodes):
        refused = rng.random() < 0.05
        kind = "Sign" if refused else _TAKEN[int(rng.integers(len(_TAKEN)))]
        inputs = [values[-1], skip] if kind in ("Add", "Mul", "Sub") else [values[-1]]
        made.append(_node(kind, inputs, index))
        values.append(made[-1].outputs[0])
        if index % 7 == 0:
            skip = values[-1]
    return _model([start], [values[-1]], made)


def tangled(nodes: int, seed: int = 0) -> ir.Model:
    """A random graph: every node takes one or two of the last fifty values; the hardest case for the cut."""
    rng = np.random.default_rng(seed)
    start = [_value(f"x{index}") for index in range(4)]
    made, values = [], list(start)
    for index in range(nodes):
        kind = "Sign" if rng.random() < 0.2 else "Add"
        near = values[-50:]
        inputs = [near[int(rng.integers(len(near)))] for _ in range(2 if kind == "Add" else 1)]
        made.append(_node(kind, inputs, index))
        values.append(made[-1].outputs[0])
    unused = [value for value in values[4:] if not value.uses()]
    return _model(start, unused, made)


def _value(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(_SHAPE))


def _node(kind: str, inputs: list[ir.Value], index: int) -> ir.Node:
    return ir.Node("", kind, inputs, outputs=[_value(f"v{index}")], name=f"n{index}")


def _model(inputs: list[ir.Value], outputs: list[ir.Value], nodes: list[ir.Node]) -> ir.Model:
    return ir.Model(ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": 17}, name="grown"), ir_version=8)


def measure(model: ir.Model, min_gain: float) -> tuple[float, float, int]:
    """Seconds for the cut, seconds for the order of execution, number of segments."""
    target = find_target("rk3588")
    start = time.perf_counter()
    plan = partition(model, target, ConvertOptions(min_gain=min_gain))
    cut = time.perf_counter() - start
    planned_steps(model, plan)
    return cut, time.perf_counter() - start - cut, len(plan.segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().sizes
    print(f"{'graph':<10}{'nodes':>8}{'segments':>10}{'partition':>12}{'order':>10}")
    for build in (residual, tangled):
        for size in sizes:
            cut, order, segments = measure(build(size), min_gain=0)
            print(f"{build.__name__:<10}{size:>8}{segments:>10}{cut:>10.2f} s{order:>8.2f} s")


if __name__ == "__main__":
    main()
