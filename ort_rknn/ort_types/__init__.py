"""onnxruntime's value classes with an NPU's memory: session options, OrtValue, IOBinding, profiles."""
