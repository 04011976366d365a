"""Sessions on another machine: addresses, the Open Inference Protocol's tensors and errors, and both transports.

Nothing here is imported unless a session is opened by an address, and gRPC only where the address asks for it.
"""
