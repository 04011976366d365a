"""Rules that decide whether the NPU may have a node; tables and predicates, no compiler."""
