"""Numbers: references, rounding as the NPU rounds, tolerances and errors."""
