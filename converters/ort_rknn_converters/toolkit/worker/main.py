"""Runs inside the toolkit's own Python: one conversion, then the simulator on the feeds given, then the end.

Called as ``python main.py JOB_DIRECTORY PARENT`` by :mod:`ort_rknn_converters.toolkit.compile`, maybe before there is
a job: it imports the toolkit and waits for a line on its standard input; a second line says that the feeds are there,
too. This package is not installed there, so only the standard library, numpy, the toolkit and the files beside this one
may be imported, and the syntax stays that of Python 3.8. What goes in and out is described by ``job.json`` and
``result.json`` in the job's directory; everything printed, by Python or by the vendor's native code, goes to this
process's own output.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

LINE_BUFFERED = 1  # _IOLBF of glibc
MOST_ROUNDS = 300  # of graph rules; a guess, more than 30 times what large models need


class Refused(Exception):
    """A call of the toolkit that failed without an exception of its own."""


class Stages:
    """Runs one stage after another and remembers how long each took."""

    def __init__(self) -> None:
        self.current = "start"
        self.seconds: dict[str, float] = {}

    def run(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` as stage ``name``, time it and return what it returned."""
        self.current = name
        Path("stage").write_text(name)  # for the client, should this process not live to tell
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def checked(self, name: str, function: Any, *args: Any, **kwargs: Any) -> None:
        """Like :meth:`run` for a function that returns 0 when it worked.

        Raises:
            Refused: It returned something else.
        """
        code = self.run(name, function, *args, **kwargs)
        if code != 0:
            raise Refused(f"{name} returned {code}")


def line_buffer_native_output() -> None:
    """Flush C's stdout after each line, or a crash loses what the compiler said before it."""
    libc = ctypes.CDLL(None)
    try:
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
    except ValueError:
        return
    libc.setvbuf(stdout, None, LINE_BUFFERED, 0)


def insert_standins() -> list[str]:
    """Stand in for what is missing, and hide this file's directory from the imports that follow."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    return list(beside("stub_modules").insert())


@lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8 has no other
def beside(name: str) -> Any:
    """The module in the file of that name beside this one."""
    file = Path(__file__).resolve().with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"ort_rknn_{name}", str(file))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def end_endless_fusing() -> None:
    """Notice graph rules of the toolkit that undo each other for ever, by its progress bar.

    Seen with a rotary embedding of rank 3: 80 rounds a second without end; models that end need 7 to 9 rounds.
    """
    if importlib.util.find_spec("tqdm") is None:
        return  # then the toolkit will say so itself
    tqdm = importlib.import_module("tqdm")

    class Counted(tqdm.tqdm):  # type: ignore[misc,name-defined]
        rounds = 0

        def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
            if desc and "OpFusing" in desc:
                Counted.rounds += 1
                if Counted.rounds > MOST_ROUNDS:
                    raise Refused(f"its graph rules undo each other without end (stopped after {MOST_ROUNDS} rounds)")
            super().set_description(desc, refresh)

    tqdm.tqdm = Counted  # type: ignore[attr-defined]


def import_toolkit() -> tuple[Any, str]:
    """Import the toolkit; returns its class and its version."""
    from importlib import metadata

    from rknn.api import RKNN

    return RKNN, metadata.version("rknn-toolkit2")


def file_interface(path: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs the exported file has, in its own order: the toolkit silently drops some.

    Returns:
        Two lists of ``{"name", "dims"}``, read from the JSON at the end of the file.
    """
    with Path(path).open("rb") as file:
        (length,) = struct.unpack("<16xQ", file.read(24))
        file.seek(64 + length)
        (length,) = struct.unpack("<Q", file.read(8))
        trailer = json.loads(file.read(length).decode("utf-8"))
    tensors = {tensor["tensor_id"]: tensor for tensor in trailer["norm_tensor"]}
    sides: dict[str, list[tuple[int, dict[str, Any]]]] = {"input": [], "output": []}
    for edge in trailer["graph"]:
        tensor = tensors[edge["right_tensor_id"]]
        sides[edge["left"]].append((edge["left_tensor_id"], {"name": tensor["url"], "dims": tensor["size"]}))
    inputs, outputs = ([entry for _, entry in sorted(side, key=lambda pair: pair[0])] for side in sides.values())
    return inputs, outputs


def simulate(
    toolkit: Any, feeds: list[dict[str, str]], inputs: list[str], outputs: list[str]
) -> Iterator[dict[str, str]]:
    """Run the live simulator on each feed and write its answers; yields output name -> file, per feed."""
    import numpy as np

    Path("outputs").mkdir(exist_ok=True)
    for number, feed in enumerate(feeds):
        missing = [name for name in inputs if name not in feed]
        if missing:
            raise Refused(f"feed {number} lacks the input(s) {', '.join(missing)}")
        arrays = [np.load(feed[name], allow_pickle=False) for name in inputs]
        # float64 is refused by the simulator; 'nchw' keeps it from transposing and is ignored for other ranks.
        arrays = [array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays]
        answers = toolkit.inference(inputs=arrays, data_format=["nchw"] * len(arrays))
        if answers is None:
            raise Refused(f"the simulator returned nothing for feed {number}")
        if len(answers) != len(outputs):
            raise Refused(f"the simulator returned {len(answers)} outputs, the file has {len(outputs)}")
        files = {}
        for position, name in enumerate(outputs):
            files[name] = f"outputs/{number}_{position}.npy"
            np.save(files[name], answers[position])
        del arrays, answers
        beside("patches").give_memory_back()
        yield files


def get_ready(stages: Stages) -> tuple[Any, Any, str, list[str]]:
    """Import the toolkit; returns its class, an object of it, its version, and what was stood in for."""
    replaced = stages.run("import", insert_standins)
    stages.run("import", end_endless_fusing)
    toolkit_class, version = stages.run("import", import_toolkit)
    patches = beside("patches")
    stages.run("import", patches.load)
    stages.run("import", patches.build)
    toolkit = stages.run("import", toolkit_class, verbose=False)
    stages.run("import", patches.collect_rarely)
    return toolkit_class, toolkit, version, replaced


def await_job() -> dict[str, Any]:
    """Wait until the client has written the job, and read it."""
    if not sys.stdin.buffer.readline():
        os._exit(0)  # there will be no job
    job: dict[str, Any] = json.loads(Path("job.json").read_text(encoding="utf-8"))
    if job["nice"]:
        os.nice(job["nice"])
    return job


def await_feeds(job: dict[str, Any]) -> list[dict[str, str]]:
    """Wait until the client has written the feeds; input name -> file, per feed.

    A copy of this process may have read the line that says so.
    """
    file = Path(job["feeds"])
    if not file.exists():
        sys.stdin.buffer.readline()
    feeds: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return feeds


def convert(job: dict[str, Any], stages: Stages, ready: tuple[Any, Any, str, list[str]]) -> dict[str, Any]:
    """Do the whole job; returns what the client wants to know about it."""
    toolkit_class, toolkit, version, replaced = ready
    patches = beside("patches")
    end_with_parent = beside("parent_death").end_with_parent
    simulation = beside("parallel_simulation").Simulation(end_with_parent, patches.give_memory_back)
    calibrated = "dataset" in job["build"]
    if calibrated:
        patches.restore_sessions()  # they run all samples; and a copy of this process would lack their threads
    if job["float16"]:
        toolkit = beside("hybrid").build(stages.checked, toolkit_class, job)
    else:
        stages.checked("config", toolkit.config, **job["config"])
        stages.checked("load", toolkit.load_onnx, model=job["model"])
        try:
            with simulation.beside_the_compiler() if job["feeds"] and not calibrated else nullcontext():
                stages.checked("build", toolkit.build, **job["build"])
            if simulation.here:
                patches.simulate_beside()
                simulation.leave(toolkit, lambda *names: list(simulate(toolkit, await_feeds(job), *names)))
        finally:
            if simulation.here:
                os._exit(1)
    stages.checked("export", toolkit.export_rknn, job["rknn"])
    inputs, outputs = file_interface(job["rknn"])
    answers: list[dict[str, str]] = []
    if job["feeds"]:
        names = [entry["name"] for entry in inputs], [entry["name"] for entry in outputs]
        found = stages.run("simulate", simulation.answers, *names)
        if found is None:
            stages.run("simulate", patches.simulate)
            stages.checked("simulate", toolkit.init_runtime)
            found = stages.run("simulate", lambda: list(simulate(toolkit, await_feeds(job), *names)))
        answers = found
    analysis = []
    if job["analyse"]:
        analysis = beside("analysis").run(stages.checked, toolkit, job["analyse"], [entry["name"] for entry in inputs])
    return {
        "version": version,
        "inputs": inputs,
        "outputs": outputs,
        "answers": answers,
        "stand_ins": replaced,
        "analysis": analysis,
    }


def peak_memory() -> int:
    """Largest resident size of this process in bytes; ``ru_maxrss`` would count what the parent had before exec."""
    try:
        with Path("/proc/self/status").open() as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(directory: str, parent: int) -> None:
    """Work in ``directory`` and leave ``result.json`` there."""
    os.chdir(directory)
    beside("parent_death").end_with_parent(parent)
    faulthandler.enable()
    line_buffer_native_output()
    stages = Stages()
    result: dict[str, Any] = {"ok": False}
    try:
        ready = get_ready(stages)
        result.update(convert(await_job(), stages, ready), ok=True)
    except MemoryError as error:
        result.update(kind="memory", message=str(error))
    except Refused as error:
        result.update(kind="refused", code=str(error))
    except (Exception, SystemExit) as error:  # the toolkit raises ValueError with a whole traceback as its text
        result.update(kind="refused", error=type(error).__name__, message=str(error))
    result.update(stage=stages.current, seconds=stages.seconds, peak_rss=peak_memory())
    part = Path("result.json.part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace("result.json")
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(0)  # the interpreter's and the toolkit's own farewell takes time and can crash


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
