"""Running cases and comparing outputs."""
