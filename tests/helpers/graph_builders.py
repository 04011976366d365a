"""Small graphs written as lines, and random ones, for tests of placement."""

from __future__ import annotations

import random

import onnx_ir as ir

SHAPE = (1, 8, 64, 64)


def chain(*lines: str, inputs: str = "x", outputs: str = "y", shape: tuple[int, ...] = SHAPE) -> ir.Model:
    """A float graph of lines like ``"c = Add(a, b)"``; nodes are named after their output, all shapes are equal."""
    values = {name: _value(name, shape) for name in inputs.split()}
    nodes = []
    for line in lines:
        result, call = line.split(" = ")
        op, arguments = call.rstrip(")").split("(")
        taken = [values[name.strip()] for name in arguments.split(",")]
        values[result] = _value(result, shape)
        nodes.append(ir.Node("", op, taken, outputs=[values[result]], name=result))
    given = [values[name] for name in outputs.split()]
    graph = ir.Graph(
        [values[name] for name in inputs.split()], given, nodes=nodes, opset_imports={"": 17}, name="graph"
    )
    return ir.Model(graph, ir_version=8)


def tangle(seed: int, size: int = 30, refused: float = 0.3) -> ir.Model:
    """A random graph in which about ``refused`` of the nodes are ``Sign``, which no NPU takes."""
    rng = random.Random(seed)
    lines, names = [], ["x", "w"]
    for index in range(size):
        near = names[-8:]
        if rng.random() < refused:
            lines.append(f"v{index} = Sign({rng.choice(near)})")
        else:
            lines.append(f"v{index} = Add({rng.choice(near)}, {rng.choice(near)})")
        names.append(f"v{index}")
    used = " ".join(lines).replace("(", " ").replace(")", " ").replace(",", " ").split()
    loose = [name for name in names[2:] if used.count(name) == 1]
    return chain(*lines, inputs="x w", outputs=" ".join(loose), shape=(1, 8))


def _value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
