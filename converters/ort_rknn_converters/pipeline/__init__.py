"""The way of a model: prepare, plan, compile, assemble."""
