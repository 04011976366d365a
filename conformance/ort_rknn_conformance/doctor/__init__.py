"""``ort-rknn doctor``: everything that decides whether the NPU is used on this machine, and the cure of what is bad."""
