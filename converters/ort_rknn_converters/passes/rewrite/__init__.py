"""Passes that replace what the compiler cannot lower by what it can."""
