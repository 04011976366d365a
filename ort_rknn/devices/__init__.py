"""What can execute a compiled segment: one file a device, all behind the protocols of `base`."""
