"""Proof that the numbers are right: the session against CPU ONNX Runtime."""
