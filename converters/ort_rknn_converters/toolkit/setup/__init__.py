"""The private Python environment that rknn-toolkit2 runs in."""
