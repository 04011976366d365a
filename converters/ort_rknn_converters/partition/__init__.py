"""The cut: which node runs on the NPU, which on the CPU, and why."""
