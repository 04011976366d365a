"""Sharing of one NPU by the sessions of a process, and by processes: who goes next, and how many contexts each has."""
