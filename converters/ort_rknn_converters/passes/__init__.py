"""The rewrites that prepare an ONNX model for the NPU, one a file; ``pipeline/prepare.py`` runs them."""
