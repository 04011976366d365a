"""``ort-rknn check`` (one model of the user's) and ``ort-rknn conformance`` (the standard's cases)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console

from ort_rknn.remote.address import is_address
from ort_rknn_conformance.case import CaseError, Settings
from ort_rknn_conformance.flows import FLOWS, PRECISIONS, Flow, find_flow
from ort_rknn_conformance.flows.remote import flow_at
from ort_rknn_conformance.progress import Progress
from ort_rknn_conformance.report.formats import ReportFiles, report_options
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.check_settings import as_compiled, check_settings
from ort_rknn_converters.cli.convert_options import CPU_NODES
from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import is_folder, is_there

__all__ = ["check", "conformance"]

DISAGREES, UNREADABLE, INTERRUPTED = 1, 2, 130
_PLACED = {"--fix": "fix", "--cpu-node": "cpu_nodes"}  # flags that say where nodes run
SAVE_EVERY = 5.0  # seconds between two writings of a run's JSON, which --resume goes on with (a guess)
_PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    show_default=True,
    help="Of the NPU parts; mixed: int8 in which layers stay fp16 until the error is small.",
)
MODEL_LIMIT = 1800.0  # seconds for one model of a folder: a large one takes minutes to convert (a guess)


class _Device(click.Choice[str]):
    """One of the flows, or an address."""

    def __init__(self) -> None:
        super().__init__(FLOWS)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        return value if is_address(value) else super().convert(value, param, context)


@click.command()
@click.argument("model", type=click.Path())
@click.option(
    "--data", type=click.Path(), help="A .npz of named inputs, a .npy, an image, or a folder of them; else random."
)
@click.option(
    "--preprocess",
    default="",
    metavar="SPEC",
    help="Of images: 224x224,mean=123.7:116.3:103.5,std=58.4:57.1:57.4,rgb,nchw. Default: the input's size, 0 to 1.",
)
@click.option(
    "--labels",
    metavar="FILE",
    help="The right class of each sample: .npy, text, or 'folders' (that it lies in). Gives top-1 and top-5.",
)
@click.option("--calibration", type=click.Path(), help="What int8 and w4a16 are calibrated on, as for convert.")
@click.option("--reference", type=click.Path(), help="What the CPU runs: the original of a compiled MODEL.")
@click.option(
    "--device",
    type=_Device(),
    default="simulator",
    show_default=True,
    help="What runs the NPU part; or the address of a server's model, grpc://board:8001/model.",
)
@click.option("--target", default=DEFAULT_TARGET, show_default=True, envvar="ORT_RKNN_TARGET", help="SoC.")
@_PRECISION
@click.option(
    "--samples", type=click.IntRange(min=1), help="Feeds to compare. Default: all the data, or 4 random ones."
)
@click.option("--seed", type=int, default=0, show_default=True, help="For random feeds.")
@click.option(
    "--dim",
    "--dims",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="Size of a symbolic dimension, for random feeds.",
)
@click.option(
    "--min-gain",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Estimated gain over the CPU a segment must have; 0 sends to the NPU all that can go there.",
)
@click.option("--tolerance", type=click.FloatRange(min=0), help="Largest relative RMS. Default: by precision.")
@CPU_NODES
@click.option("--layers", is_flag=True, help="Measure every node on the NPU path: where does the error begin?")
@click.option(
    "--fix",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="If the model disagrees, find what makes it agree (of int8 layers in fp16, else fewest nodes on the CPU). "
    "FILE is for 'ort-rknn convert --options'.",
)
@report_options
def check(model: str, dims: Sequence[str], device: str, **options: Any) -> None:
    """Compare a model's answers with CPU onnxruntime's, output by output. MODEL may be a folder of models.

    Exit code 0: they agree. 1: they do not. 2: the model or the data cannot be used.
    """
    from ort_rknn_conformance.diagnose.check_model import examine
    from ort_rknn_conformance.diagnose.fix_file import write_options
    from ort_rknn_conformance.report import json_report, terminal
    from ort_rknn_conformance.sources import model_file

    console = Console(highlight=False)
    start = time.monotonic()
    files = _files(options)
    settings = Settings(
        options["target"],
        options["precision"],
        options["tolerance"],
        options["min_gain"],
        cpu_nodes=options["cpu_nodes"],
        calibration=options["calibration"],
        preprocess=options["preprocess"] if options["calibration"] else "",
        closely=files.html is not None,
    )
    flow = flow_at(device) if is_address(device) else find_flow(device)
    log = logger()
    click.get_current_context().call_on_close(lambda level=log.level: log.setLevel(level))
    log.setLevel(logging.ERROR)  # the report says where everything ran, and why
    try:
        earlier = files.earlier()
        if options["fix"] and not Path(options["fix"]).absolute().parent.is_dir():
            raise CaseError(f"{options['fix']} cannot be written: there is no folder {Path(options['fix']).parent}")
        if is_address(device):
            _check_local_options(model, options)
        else:
            given = click.get_current_context().get_parameter_source
            settings = as_compiled(
                model,
                settings,
                said={name for name in ("precision", "target") if given(name) is ParameterSource.COMMANDLINE},
                asked_for=[flag for flag, name in _PLACED.items() if options[name]],
            )
            check_settings(settings, flow, compiled=options["reference"] is not None)
        if options["preprocess"] and not (options["data"] or options["calibration"]):
            raise CaseError("--preprocess is for the images of --data or --calibration")
        sizes = dict(_dimension(text) for text in dims)
        if is_folder(model):
            bad = _check_folder(console, model, sizes, flow, settings, files, earlier, options)
            raise SystemExit(DISAGREES if bad else 0)
        case = model_file.case(
            model,
            data=options["data"],
            preprocess=options["preprocess"],
            labels=options["labels"],
            reference=options["reference"],
            samples=options["samples"],
            seed=options["seed"],
            dims=sizes,
        )
        with console.status(f"comparing {len(case.feeds)} samples (a first conversion takes seconds to minutes)"):
            found = examine(case, flow, settings, layers=options["layers"], fix=options["fix"] is not None)
        result = found.result
        terminal.print_case(
            console,
            result,
            flow,
            target=settings.target,
            precision=settings.precision,
            random=options["data"] is None,
        )
        if result.layers:
            terminal.print_layers(console, result.layers, found.vendor_missing)
        if options["fix"]:
            terminal.print_fix(console, found.fix, options["fix"], options["reference"] or model, result)
            if found.fix is not None and found.fix.cured:
                write_options(options["fix"], found.fix, case, settings)
        head = json_report.header(flow, settings)
        changed = files.write(case.name, head, [result], seconds=time.monotonic() - start, earlier=earlier)
    except CaseError as error:
        _refuse(str(error))
    if changed is not None:
        terminal.print_difference(console, changed)
    raise SystemExit(DISAGREES if result.bad else 0)


def _check_folder(
    console: Console,
    folder: str,
    dims: Mapping[str, int],
    flow: Flow,
    settings: Settings,
    files: ReportFiles,
    earlier: tuple[str, list[CaseResult]] | None,
    options: Mapping[str, Any],
) -> bool:
    """Every model of a folder, each in a worker; whether any is bad."""
    from ort_rknn_conformance.report import json_report, terminal
    from ort_rknn_conformance.run.runner import run_cases
    from ort_rknn_conformance.sources import folder as models

    for name in ("data", "preprocess", "labels", "reference", "cpu_nodes", "layers", "fix"):
        if options[name]:
            raise CaseError(f"--{name.replace('_', '-')} is for one model, not for a folder of them")
    start = time.monotonic()
    cases, results = models.cases(folder, samples=options["samples"], seed=options["seed"], dims=dims)
    with Progress() as progress:
        for result in run_cases(cases, flow, settings, jobs=os.cpu_count() or 1, time_limit=MODEL_LIMIT):
            results.append(result)
            progress.step(result.case, bad=result.bad)
    seconds = time.monotonic() - start
    terminal.print_run(console, results, flow, seconds=seconds)
    terminal.print_models(console, results)
    if all(result.verdict in ("unsupported", "skipped") for result in results):
        raise CaseError(f"{folder}: none of its {len(results)} models can be compared")
    title = f"Models of {Path(folder).resolve().name}"
    changed = files.write(title, json_report.header(flow, settings), results, seconds=seconds, earlier=earlier)
    if changed is not None:
        terminal.print_difference(console, changed)
    return any(result.bad for result in results)


@click.command()
@click.option(
    "--flow",
    "flow_name",
    type=click.Choice(FLOWS),
    default="simulator",
    show_default=True,
    help="What runs the NPU parts.",
)
@click.option(
    "--source",
    type=click.Choice(("onnx", "field")),
    default="onnx",
    show_default=True,
    help="The ONNX standard's own cases, or small models after what people complained about.",
)
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="SoC.")
@_PRECISION
@click.option(
    "--filter", "patterns", multiple=True, metavar="PATTERN", help="Only cases whose name matches; repeatable."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="the CPU cores", help="Workers."
)
@click.option("--time-limit", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds per case.")
@report_options
@click.option("--resume", is_flag=True, help="Keep the results that the --json file holds, if its run was broken off.")
def conformance(
    flow_name: str,
    source: str,
    target: str,
    precision: str,
    patterns: Sequence[str],
    jobs: int,
    time_limit: float,
    resume: bool,
    **options: Any,
) -> None:
    """Run the ONNX standard's backend test cases, or those from the field, and compare each with CPU onnxruntime.

    Exit code 0: nothing wrong, crashed or hanging. 1: something was. 2: it could not be run. 130: interrupted.
    """
    from ort_rknn_conformance.report import json_report, terminal
    from ort_rknn_conformance.run.runner import run_cases
    from ort_rknn_conformance.sources import field, onnx_node
    from ort_rknn_converters.cache import store

    console = Console(highlight=False)
    flow = find_flow(flow_name)
    # The cost rule is off: the question is what is right, not what is fast. The thousands of tiny compiled models
    # stay out of the user's own cache.
    folder = str(Path(store.cache_directory()) / "conformance")
    settings = Settings(target, precision, min_gain=0.0, cache_dir=folder, stable=True)
    start = time.monotonic()
    files = _files(options)
    json_file = files.json
    try:
        earlier = files.earlier()
        check_settings(settings, flow)
        head = json_report.header(flow, settings)
        results: dict[str, CaseResult] = {}
        if resume:
            if json_file is None:
                raise CaseError("--resume needs the --json file of the run to go on with")
            results = _earlier(json_file, head)
        with console.status("reading the cases"):
            found = field.cases(patterns) if source == "field" else onnx_node.cases(patterns)
            cases = [case for case in found if case.name not in results]
        if not cases and not results:
            raise CaseError(f"no case matches {', '.join(patterns)}")
    except CaseError as error:
        _refuse(str(error))
    if results:
        click.echo(f"going on with {len(results)} results of the broken run in {json_file}", err=True)
    written = start
    try:
        kept = sum(result.bad for result in results.values())
        with Progress(len(cases) + len(results), done=len(results), bad=kept) as progress:
            for result in run_cases(cases, flow, settings, jobs=jobs, time_limit=time_limit):
                results[result.case] = result
                progress.step(result.case, bad=result.bad)
                if json_file is not None and time.monotonic() - written > SAVE_EVERY:
                    json_report.write(json_file, head, results.values(), finished=False)
                    written = time.monotonic()
    except KeyboardInterrupt:
        if json_file is None:
            _refuse("interrupted; nothing was written", INTERRUPTED)
        json_report.write(json_file, head, results.values(), finished=False)
        _refuse(f"interrupted; {len(results)} results are in {json_file}: --resume goes on with them", INTERRUPTED)
    seconds = time.monotonic() - start
    terminal.print_run(console, list(results.values()), flow, seconds=seconds)
    try:
        title = "Cases from the field" if source == "field" else "Conformance with the ONNX standard"
        changed = files.write(title, head, results.values(), seconds=seconds, earlier=earlier)
    except CaseError as error:
        _refuse(str(error))
    if changed is not None:
        terminal.print_difference(console, changed)
    raise SystemExit(DISAGREES if any(result.bad for result in results.values()) else 0)


def _files(options: Mapping[str, Any]) -> ReportFiles:
    return ReportFiles(**{field.name: options[field.name] for field in fields(ReportFiles)})


def _check_local_options(model: str, options: Mapping[str, Any]) -> None:
    """Refuse what an address leaves to its server."""
    given = [name for name in ("cpu_nodes", "layers", "fix", "calibration") if options[name]]
    if given or is_folder(model):
        what = f"--{given[0].replace('_', '-')}" if given else "a folder"
        raise CaseError(f"{what} does not go with an address: the server's model is compared as it is")


def _earlier(json_file: str, head: dict[str, Any]) -> dict[str, Any]:
    """The results of a broken run of the same thing; none where there is no file yet, or that run came to its end."""
    from ort_rknn_conformance.report import json_report

    if not is_there(json_file):
        return {}
    before, results = json_report.read(json_file)
    if before["finished"]:
        return {}
    different = json_report.same_run(head, before)
    if different:
        raise CaseError(
            f"{json_file} is another run's ({', '.join(different)} differ): remove it, or go on without --resume"
        )
    return {result.case: result for result in results}


def _dimension(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not name or not size.isdigit() or int(size) < 1:
        raise click.BadParameter(f"{text!r} is not NAME=SIZE", param_hint="--dim")
    return name, int(size)


def _refuse(message: str, code: int = UNREADABLE) -> NoReturn:
    click.echo(f"error: {shown_lines(message)}", err=True)
    raise SystemExit(code)
