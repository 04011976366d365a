"""``ray start --resources="$(python -m ort_rknn.ray)"``: prints a board's resources."""

from __future__ import annotations

import json

from ort_rknn.ray.resources import node_resources

if __name__ == "__main__":
    print(json.dumps(node_resources()))
