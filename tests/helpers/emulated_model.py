"""Compiled models of one segment that the emulated runtime executes."""

from __future__ import annotations

from onnx import TensorProto, helper

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.steps import npu_step
from ort_rknn_converters.compiled.stub_model import make_stub
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.partition.plan import NPU, NodePlacement, Plan, Segment
from ort_rknn_converters.tensor_info import TensorInfo
from tests.helpers.emulator import Model

__all__ = ["compiled_emulated"]


def compiled_emulated(model: Model) -> CompiledModel:
    """The model (float16 on the NPU, float32 outside) as a session opens it."""
    values = [
        [helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.shape) for tensor in tensors]
        for tensors in (model.inputs, model.outputs)
    ]
    names = [[tensor.name for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    graph = helper.make_graph([helper.make_node("Net", *names, name="net", domain="test")], "net", *values)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("test", 1)])
    given, made = (
        tuple(TensorInfo(tensor.name, "tensor(float)", tensor.shape) for tensor in tensors)
        for tensors in (model.inputs, model.outputs)
    )
    segment = Segment("npu_0", ("net",), given, made, 1e-3, 1.0, 2.0)
    plan = Plan(model.target, "fp16", (NodePlacement("net", "Net", NPU, "", "npu_0"),), (segment,), ())
    code = {model.target: BytesBlob(model.data())}
    step = npu_step(segment, code=code, model=None, precision="fp16", toolkit_version="2.5.0")
    stub = BytesBlob(make_stub(whole).SerializeToString())
    return CompiledModel(stub=stub, steps=(step,), plan=plan, targets=(model.target,), toolkit_version="2.5.0")
