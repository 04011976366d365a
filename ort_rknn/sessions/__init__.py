"""Sessions behind onnxruntime's class: CPU only, NPU, dynamic shapes."""
