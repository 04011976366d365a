"""The graph of a loaded model: loading, dataflow, shape inference, extraction, evaluation."""
