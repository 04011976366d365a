"""Lanes: workers bound to one core or core mask, as Python threads or in C."""
