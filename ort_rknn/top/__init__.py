"""The command ``ort-rknn top``: sessions of this machine, live."""
