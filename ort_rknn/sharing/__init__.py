"""Common goods of the sessions of a board: NPU memory, weights that are loaded once, the list of who does what."""
