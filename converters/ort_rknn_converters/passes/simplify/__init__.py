"""Passes that make a model plain: functions inlined, shapes static, constants folded."""
