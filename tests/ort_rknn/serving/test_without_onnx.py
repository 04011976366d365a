"""A server on a board that has neither onnx nor onnx-ir: the extra ``serve`` brings none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ort_rknn.examples import EDGES_COMPILED
from tests.helpers.serving import put_models
from tests.helpers.without_onnx import python

NAMES = (
    *("two", "mixed", "dynamic", "override", "scalar", "shapes", "zipmap", "half", "string", "bfloat16", "sequence"),
    "optional",
)
CODE = """
import os
from pathlib import Path
import numpy as np
import ort_rknn
from ort_rknn.serving.security import Listen
from ort_rknn.serving.server import Server, ServeSettings

def said(session):
    groups = (session.get_inputs(), session.get_outputs(), session.get_overridable_initializers())
    meta = session.get_modelmeta()
    shown = [[(one.name, one.type, one.shape) for one in group] for group in groups]
    return shown, meta.custom_metadata_map, meta.graph_name

free = Listen("127.0.0.1", 0)
server = Server(ServeSettings(Path(sys.argv[1]), (free,), free, options={"device": "cpu"}))
server.start()
for name in sys.argv[2:]:
    local = ort_rknn.InferenceSession(f"{sys.argv[1]}/{name}.onnx", device="cpu")
    for address in (f"grpc://127.0.0.1:{server.grpc_ports[0]}/{name}", f"http://127.0.0.1:{server.http_port}/{name}"):
        with ort_rknn.InferenceSession(address) as session:
            assert said(session) == said(local), (said(session), said(local))
            if name in ("two", "compiled"):
                rows = [(one.name, one.shape) for one in local.get_inputs()]
                feed = {key: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for key, shape in rows}
                for got, wanted in zip(session.run(None, feed), local.run(None, feed), strict=True):
                    assert got.tobytes() == wanted.tobytes()
    print(name)
assert not {"onnx", "onnx_ir"} & set(sys.modules)
sys.stdout.flush()
os._exit(0)
"""


def test_models_are_described_and_run(tmp_path: Path) -> None:
    folder = put_models(tmp_path / "models", *NAMES)
    shutil.copy(EDGES_COMPILED, folder / "compiled.onnx")
    names = [*NAMES, "compiled"]
    done = python(CODE, str(folder), *names, there="ml_dtypes")  # which tritonclient needs
    assert done.stdout.split() == names, done.stderr[-2000:]
