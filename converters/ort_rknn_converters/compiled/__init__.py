"""The compiled model and its forms on disk."""
