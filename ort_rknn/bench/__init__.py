"""``ort-rknn bench``: how fast a model runs here, one inference at a time and with many in flight."""
