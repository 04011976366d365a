"""Finds the board, runs a model and writes the answers, by an aarch64 Python: guest.py PLUGIN MODEL FEED ANSWERS."""

import json
import sys

import numpy as np
import onnxruntime as ort

plugin, model, feed, answers = sys.argv[1:]
ort.register_execution_provider_library("rknn", plugin)
(npu,) = [device for device in ort.get_ep_devices() if device.ep_name == "RKNNExecutionProvider"]
options = ort.SessionOptions()
options.add_provider_for_devices([npu], {"tp_mode": "all"})
session = ort.InferenceSession(model, options)
given = np.load(feed)
np.savez(answers, **dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(given)), strict=True)))
print(json.dumps({"version": ort.__version__, "type": npu.device.type.name, **npu.device.metadata}))
