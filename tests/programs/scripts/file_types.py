"""Says what kind of file each of a few texts is, with Magika: one session, lists of lists as input."""

from __future__ import annotations

from magika import Magika

SAMPLES = {
    "python": b"import os\n\n\ndef main() -> None:\n    for name in os.listdir('.'):\n        print(name)\n\nmain()\n",
    "html": b"<!doctype html>\n<html><head><title>x</title></head><body><h1>Hello</h1><p>text</p></body></html>\n" * 3,
    "json": b'{"name": "ort", "list": [1, 2, 3], "inner": {"a": null, "b": true}}\n' * 4,
    "c": b'#include <stdio.h>\n\nint main(void)\n{\n    printf("hello\\n");\n    return 0;\n}\n',
    "shell": b'#!/bin/sh\nset -e\nfor f in *.txt; do\n  echo "$f"\ndone\n',
    "markdown": b"# Title\n\nSome *text* with a [link](http://example.org).\n\n- one\n- two\n",
}

reader = Magika()
for name, content in SAMPLES.items():
    result = reader.identify_bytes(content)
    print(name, result.output.label, f"{result.score:.1f}")
