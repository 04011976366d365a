"""The rewrites that prepare an ONNX model for the NPU, one a file; :mod:`ort_rknn_converters.prepare` runs them."""
