"""The cache of compiled models."""
