"""ONNX Runtime's Python API on Rockchip NPUs."""
