"""Answers that both doors give: who the server is, and a model's statistics as the protocol has them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ort_rknn.serving.repository import Repository
from ort_rknn.serving.statistics import Statistics

__all__ = ["EXTENSIONS", "NAME", "model_statistics", "server_version"]

NAME = "ort_rknn"
EXTENSIONS = ["model_repository", "model_configuration", "statistics", "binary_tensor_data", "parameters"]
"""Triton's names of what is spoken beside the protocol's core."""


def server_version() -> str:
    """The release of this package."""
    return version("ort-rknn")


def model_statistics(repository: Repository, name: str, model_version: str) -> list[dict[str, Any]]:
    """The statistics of one model, or of all that were called when ``name`` is empty.

    Raises:
        Refusal: There is no such model.
    """
    if not name:
        return [_row(known, numbers) for known, numbers in repository.all_statistics().items()]
    known, _ = repository.find(name, model_version)
    return [_row(known, repository.statistics(known))]


def _row(name: str, statistics: Statistics) -> dict[str, Any]:
    now = statistics.snapshot()
    return {
        "name": name,
        "version": "1",
        "last_inference": now.last,
        "inference_count": now.answered,
        "execution_count": now.answered,
        "inference_stats": {
            "success": _duration(now.answered, now.seconds),
            "fail": _duration(now.failed, now.failed_seconds),
            "queue": _duration(now.answered, now.queue_seconds),
            "compute_input": _duration(now.answered, 0.0),
            "compute_infer": _duration(now.answered, now.infer_seconds),
            "compute_output": _duration(now.answered, 0.0),
        },
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}
