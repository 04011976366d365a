"""The converters' subcommands of ``ort-rknn``."""
