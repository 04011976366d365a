"""``ort-rknn bench MODEL``: the command."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ort_rknn.bench.feeds import FeedError, needs, random_feed, read_feed, with_values
from ort_rknn.bench.measure import Limit, Pass, async_pass, sync_pass
from ort_rknn.bench.report import (
    PERCENTILES,
    PartTime,
    limited_by_this_computer,
    part_times,
    parts_table,
    pass_to_dict,
    print_report,
)
from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDER
from ort_rknn.remote.address import is_address
from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.own_files import write_given

__all__ = ["command"]

FAILED, BAD_INPUT = 1, 2  # exit codes
PROGRESS_EVERY_S = 0.1  # so that drawing does not disturb what is measured


def _percentiles(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 100 for share in shares):
        raise click.BadParameter("numbers above 0 up to 100, separated by commas: 50,95,99.9")
    return shares


@click.command("bench")
@click.argument("model")
@click.option("-n", "--num-iteration", "count", type=click.IntRange(1), help="Inferences.  [default: 10]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Begin inferences for so long instead.")
@click.option("-i", "--input", "input_file", type=click.Path(path_type=Path), help="What to feed: .npy, .npz or .bin.")
@click.option("-d", "--dry-run", is_flag=True, help="Random inputs and no files at all (but --json).")
@click.option(
    "--output", "output_folder", type=click.Path(path_type=Path), help="Write the last outputs here, as .bin."
)
@click.option(
    "--api",
    type=click.Choice(["sync", "async"]),
    default="async",
    show_default=True,
    help="One at a time, or several in flight.",
)
@click.option("--benchmark", is_flag=True, help="Both: a sync pass beside the async one; no output files.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1), help="Inferences in flight.  [default: what cores and queue hold]"
)
@click.option(
    "--performance-hint",
    "--hint",
    "hint",
    type=click.Choice(["none", "latency", "throughput"]),
    help="The option of that name.",
)
@click.option(
    "--percentiles",
    callback=_percentiles,
    default=",".join(f"{share:g}" for share in PERCENTILES),
    show_default=True,
    help="Latencies to show beside median, mean, min and max.",
)
@click.option("--per-core", is_flag=True, help="A table of what each core did.")
@click.option("--per-segment", is_flag=True, help="A table of what each part of the model took (it is profiled).")
@click.option(
    "--layers", is_flag=True, help="What each layer took on the NPU, by its runtime (the inferences are slower)."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything here as JSON too.")
@click.option("--plugin", is_flag=True, help="Plain onnxruntime with the plugin too, on the same compiled model.")
@click.option("--device", help="The option device: npu, simulator, cpu ...")
@click.option("--target", help="The option target: the SoC.")
@click.option(
    "--simulator-latency-ms",
    "--latency",
    "latency",
    type=click.FloatRange(0),
    help="Milliseconds an inference takes on the simulator.",
)
@click.option("--simulator-cores", "--cores", "cores", type=click.IntRange(1), help="Cores of the simulator.")
@click.option("--shapes", default="", help="Shapes of inputs that the model leaves open: x=1x3x224x224;y=1x8")
@click.option("--dims", default="", help="Sizes of symbolic dimensions: batch=1;seq=128")
@click.option("-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help="Any other provider option.")
def command(model: str, **given: Any) -> None:
    """Measure how fast MODEL (.onnx, a compiled model, or the address grpc://board:8001/model of one) runs.

    Ends with status 0 only when every inference succeeded; 2 when MODEL or an argument is no good.
    """
    try:
        code = _bench(model, given)
    except _Refused as reason:
        click.echo(f"Error: {shown_lines(reason)}", err=True)
        code = BAD_INPUT
    sys.exit(code)


class _Refused(Exception):
    """The measurement cannot begin; says why in one line."""


def _bench(model: str, given: dict[str, Any]) -> int:
    options = _provider_options(given)
    if given["count"] and given["seconds"]:
        raise _Refused("give -n or --seconds, not both")
    if given["dry_run"] and (given["input_file"] or given["output_folder"]):
        raise _Refused("--dry-run reads and writes no files: leave --input and --output away")
    if given["plugin"] and is_address(model):
        raise _Refused("--plugin is for models on this machine")
    for path in (given["json_file"], given["output_folder"] and given["output_folder"] / "x"):
        if path is not None:
            _make_folder(path.parent)
    limit = Limit(given["count"] or (None if given["seconds"] else 10), given["seconds"])

    from ort_rknn import InferenceSession

    profiling = _Profiling() if given["per_segment"] else None
    try:
        session_options = profiling.options if profiling else None
        session = InferenceSession(model, session_options, [(RKNN_PROVIDER, options), CPU_PROVIDER])
    except Exception as error:  # whatever is wrong with the model or the options
        raise _Refused(_one_line(error)) from error
    with session:
        feed = _feed(session, options, given["input_file"])
        passes, first_s = _passes(session, feed, limit, given)
        parts = profiling.read(session) if profiling else []
        layers = _layers(session) if given["layers"] else {}
        limited = limited_by_this_computer(session.contexts())
    if given["plugin"]:
        passes += _with_plugin(Path(model), options, feed, limit, passes[-1].jobs)
    console = Console()
    if profiling:
        console.print(parts_table(parts))
    for segment, table in layers.items():
        console.print(shown_lines(f"{segment}, layer by layer:\n{table}"), markup=False, highlight=False)
    if limited:
        console.print(f"{limited}.", soft_wrap=True, highlight=False)
    print_report(console, passes, first_s, given["percentiles"], given["per_core"])
    if given["output_folder"] and not given["benchmark"]:
        _write_outputs(given["output_folder"], passes[-1].results)
    if given["json_file"]:
        report = {
            "model": model,
            "options": options,
            "providers": session.get_providers(),
            "first_inference_ms": 1000 * first_s,
            "layers": layers,
            "limited": limited,
            "parts": [asdict(part) for part in parts],
            "passes": [pass_to_dict(measured, given["percentiles"]) for measured in passes],
        }
        write_given(given["json_file"], json.dumps(report, indent=2) + "\n")
    return 0 if all(measured.asked and measured.completed == measured.asked for measured in passes) else FAILED


class _Profiling:
    """Has a session profiled into a folder that does not stay."""

    def __init__(self) -> None:
        from ort_rknn import SessionOptions

        self._folder = tempfile.TemporaryDirectory(prefix="ort_rknn-bench-")
        self.options = SessionOptions()
        self.options.enable_profiling = True
        self.options.profile_file_prefix = str(Path(self._folder.name) / "bench")

    def read(self, session: Any) -> list[PartTime]:
        """End the profile and read it."""
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        self._folder.cleanup()
        return part_times(events)


def _provider_options(given: dict[str, Any]) -> dict[str, Any]:
    """The command's arguments as options of the provider."""
    options: dict[str, Any] = {}
    for pair in given["more"]:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise _Refused(f"--option takes KEY=VALUE, not {pair!r}")
        options[key.strip()] = value
    named = {
        "device": given["device"],
        "target": given["target"],
        "performance_hint": given["hint"],
        "simulator_latency_ms": given["latency"],
        "simulator_cores": given["cores"],
        "shapes": given["shapes"] or None,
        "dims": given["dims"] or None,
        "collect_perf": True if given["layers"] else None,
    }
    options |= {key: str(value) for key, value in named.items() if value is not None}
    if given["jobs"]:
        options.setdefault("max_queue_size", str(max(3, given["jobs"])))  # the queue must not hold the jobs back
    return options


def _with_plugin(model: Path, options: dict[str, Any], feed: dict[str, Any], limit: Limit, jobs: int) -> list[Pass]:
    from ort_rknn.bench.plugin import plugin_passes, plugin_session

    try:
        with plugin_session(model, options) as session, _progress("plugin", limit) as progress:
            return plugin_passes(session, feed, limit, progress, jobs)
    except Exception as error:  # no plugin here, no NPU, or a model it cannot take
        raise _Refused(f"--plugin: {_one_line(error)}") from error


def _layers(session: Any) -> dict[str, str]:
    """Segment to the runtime's table of the last inference on one of its contexts."""
    found: dict[str, str] = {}
    for facts in session.contexts():
        segment = str(facts.get("segment", ""))
        found[segment] = facts.get("layers") or found.get(segment, "")
    if not any(found.values()):
        raise _Refused("--layers: only the NPU's own runtime tells what each layer took; this ran elsewhere")
    return found


def _feed(session: Any, options: dict[str, Any], input_file: Path | None) -> dict[str, Any]:
    from ort_rknn.options.table import RknnOptions

    known = RknnOptions.parse(options)
    try:
        shapes = {name: several[0] for name, several in known.shapes.items()}
        wanted = needs(session.get_inputs(), shapes, known.dims)
        if input_file is not None:
            return read_feed(input_file, wanted)
        return with_values(random_feed(wanted), session.plan.values)
    except FeedError as error:
        raise _Refused(str(error)) from error


def _passes(session: Any, feed: dict[str, Any], limit: Limit, given: dict[str, Any]) -> tuple[list[Pass], float]:
    """The passes that were asked for, after one inference that is timed by itself."""
    from ort_rknn.ort_private.errors import error_class

    jobs = given["jobs"] or session._engine().width
    wanted = ["sync", "async"] if given["benchmark"] else [given["api"]]
    begun = time.perf_counter()
    try:
        session.run(None, feed)
    except (error_class("InvalidArgument"), ValueError) as error:
        raise _Refused(_one_line(error)) from error
    except Exception as error:  # the device's: the measurement ends before it began
        asked = limit.count or 1
        return [Pass(api, jobs, asked, error=_one_line(error)) for api in wanted], 0.0
    first_s = time.perf_counter() - begun

    passes = []
    for api in wanted:
        with _progress(api, limit) as progress:
            if api == "sync":
                passes.append(sync_pass(session, feed, limit, progress))
            else:
                passes.append(async_pass(session, feed, limit, progress, jobs))
    return passes, first_s


@contextmanager
def _progress(api: str, limit: Limit) -> Iterator[Any]:
    """A bar on the terminal, fed now and then; nothing where there is no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(api, total=limit.count)
        next_at = 0.0

        def update(done: int) -> None:
            nonlocal next_at
            now = time.perf_counter()
            if now >= next_at:
                next_at = now + PROGRESS_EVERY_S
                bar.update(task, completed=done)

        yield update


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the measurement, not after it
    except OSError as error:
        raise _Refused(f"{folder}: {error.strerror or error}") from error


def _write_outputs(folder: Path, results: Sequence[Any]) -> None:
    """One headerless file for each output, in the order of the model's outputs."""
    for number, array in enumerate(results):
        (folder / f"output_f0_{number}.bin").write_bytes(np.ascontiguousarray(array).tobytes())


def _one_line(error: Exception) -> str:
    return shown_lines(" ".join(str(error).split()) or type(error).__name__)
