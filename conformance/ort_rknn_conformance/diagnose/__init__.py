"""Finds where an error begins, and which nodes cure it."""
