"""The loop that compiles segments, accepts or refuses them and isolates the nodes at fault."""
