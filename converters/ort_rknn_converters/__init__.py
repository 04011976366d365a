"""ONNX in, compiled model out: everything between a model file and code for the NPU."""
