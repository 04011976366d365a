"""Runs inside the toolkit's own Python: an int8 build in which some layers stay float16, by the vendor's two steps.

Loaded by ``main.py`` (this package is not installed there; the syntax stays that of Python 3.8). The first step
calibrates and writes every tensor's range to a file, in which the tensors that are to be float16 are named; the second
builds from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

APPENDED = re.compile(r"[-_#/.]")
Step = Callable[..., None]


def build(checked: Step, toolkit_class: Any, job: dict[str, Any]) -> Any:
    """Calibrate and build the model of a job; returns the toolkit's object.

    Args:
        checked: Runs one call of the toolkit as a stage and raises when it fails.
        toolkit_class: The toolkit's class; each step needs an object of its own.
        job: With ``float16``: names of the ONNX values whose layers are to be float16, and of all the others.
    """
    from ruamel.yaml import YAML

    first = toolkit_class(verbose=False)
    checked("config", first.config, **job["config"])
    checked("load", first.load_onnx, model=job["model"])
    checked("build", first.hybrid_quantization_step1, dataset=job["build"]["dataset"], proposal=False)
    stem = Path(job["model"]).stem
    settings = Path(stem + ".quantization.cfg")
    yaml = YAML()
    with settings.open() as file:
        content = yaml.load(file)
    wanted, others = set(job["float16"]["layers"]), set(job["float16"]["others"])
    layers = {
        tensor: "float16" for tensor in content["quantize_parameters"] if owner(tensor, wanted | others) in wanted
    }
    content["custom_quantize_layers"] = layers
    with settings.open("w") as file:
        yaml.dump(content, file)
    second = toolkit_class(verbose=False)
    checked("config", second.config, **job["config"])
    checked(
        "build",
        second.hybrid_quantization_step2,
        model_input=stem + ".model",
        data_input=stem + ".data",
        model_quantization_cfg=str(settings),
    )
    return second


def owner(tensor: str, values: Iterable[str]) -> str | None:
    """The value a tensor of the toolkit's stands for: the longest whose name it begins with."""
    known = set(values)
    ends = [len(tensor), *(match.start() for match in reversed(list(APPENDED.finditer(tensor))))]
    return next((tensor[:end] for end in ends if tensor[:end] in known), None)
