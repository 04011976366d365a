"""Makes the trials of ``ort-rknn board-test`` in a process of its own and tells of each through a pipe.

The vendor's runtime may kill or hang the process that uses it; the process that started this one then knows what was
tried, and by the black box in which call it ended.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ort_rknn_conformance.hardware.trial import Trial
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["main", "stand_in"]


def stand_in(device: Any, target: str) -> Any:
    """Lends our arithmetic to the device where it is this project's emulator."""
    from ort_rknn.devices.settings import NpuSettings
    from ort_rknn_conformance.flows.emulated_device import EmulatedNpu, is_emulator

    library = getattr(device, "library", None)
    if library is None or not is_emulator(library.path):
        return device
    device.close()
    return EmulatedNpu(NpuSettings(target=target, runtime_library=library.path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all trials but those that are done."""
    from ort_rknn.devices.rknnrt.device import NpuDevice
    from ort_rknn.opening.choose_device import DeviceOptions, choose
    from ort_rknn_conformance.hardware.black_box import BlackBox
    from ort_rknn_conformance.hardware.cost_trials import cost_attempts
    from ort_rknn_conformance.hardware.ways import attempts

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="npu")
    parser.add_argument("--target")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--box", type=Path, required=True)
    parser.add_argument("--done", type=Path, required=True)
    parser.add_argument("--cost", action="store_true")
    chosen = parser.parse_args(arguments)
    done = {tuple(pair) for pair in parse_json(chosen.done.read_text(encoding="utf-8"))}

    def tell(**facts: Any) -> None:
        os.write(chosen.pipe, json.dumps(facts).encode() + b"\n")

    device: Any = choose(chosen.device, DeviceOptions(target=chosen.target)).device
    if not chosen.cost:
        device = stand_in(device, chosen.target)
    if isinstance(device, NpuDevice):
        BlackBox(chosen.box).record(device)
    make = cost_attempts if chosen.cost else attempts
    for attempt in make(device, chosen.target, runs=chosen.runs):
        if all((attempt.group, name) in done for name in attempt.names):
            continue
        tell(begin=[attempt.group, attempt.names])
        tell(trials=[_plain(trial) for trial in attempt.run()])
    tell(device={key: str(value) for key, value in device.describe().items()})
    device.close()
    tell(end=True)


def _plain(trial: Trial) -> dict[str, Any]:
    return trial.to_dict()


if __name__ == "__main__":
    main()
