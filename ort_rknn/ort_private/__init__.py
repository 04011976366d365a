"""All that is not onnxruntime's documented API, and what is done where that is not as it was.

Nothing here looks at a version number. A part is tried on the least input there is, or its outcome is looked at where
it is used; where it does not behave as known there is a public way, or an error that says what cannot be done.
"""
