"""Passes that write composed operators out as simple ones."""
