"""Devices that execute compiled segments, one file each, all behind the protocols of `base`."""
