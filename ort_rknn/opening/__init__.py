"""From a model and options to an open session."""
