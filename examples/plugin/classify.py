"""Classify the digits with plain onnxruntime and the plugin: no other import stands in onnxruntime's place.

python classify.py digits.rknn.onnx digits.f32    # the second file: float32 images of 8 x 8, one after the other
"""

import sys

import numpy as np
import onnxruntime as ort

try:
    import onnxruntime_ep_rknn as plugin  # pip install onnxruntime-ep-rknn
except ImportError:
    import ort_rknn.plugin as plugin  # the same library inside the package ort-rknn

ort.register_execution_provider_library("rknn", plugin.get_library_path())
npu = [device for device in ort.get_ep_devices() if device.ep_name == plugin.get_ep_name()]
if not npu:
    sys.exit("there is no NPU here; python -m onnxruntime_ep_rknn says why")

options = ort.SessionOptions()
options.add_provider_for_devices(npu, {"performance_hint": "latency"})
session = ort.InferenceSession(sys.argv[1], options)
# From onnxruntime 1.25 on, the same by name:
# session = ort.InferenceSession(sys.argv[1], providers=[("RKNNExecutionProvider", {"performance_hint": "latency"})])

images = np.fromfile(sys.argv[2], np.float32).reshape(-1, 1, 1, 8, 8)
for image in images:
    (probabilities,) = session.run(None, {"image": image})
    print(int(probabilities.argmax()))
