"""int8: calibration data, activation samples, which layers stay fp16."""
