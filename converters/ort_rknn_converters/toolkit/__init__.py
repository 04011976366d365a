"""The vendor's toolkit in a room of its own: where it is, how it is installed, and the child process it runs in."""
