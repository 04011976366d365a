"""Proof that a session computes what onnxruntime's CPU provider computes: cases, flows, comparison and reports."""
