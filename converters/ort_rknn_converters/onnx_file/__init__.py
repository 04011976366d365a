"""ONNX files as bytes: external data, large weights apart, signatures read without parsing."""
