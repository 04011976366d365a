"""Account of what the sessions of a process hold: NPU memory, weights loaded once, the pages of `ort-rknn top`."""
