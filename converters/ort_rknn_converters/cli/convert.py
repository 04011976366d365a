"""``ort-rknn convert``: from a model file to a compiled model file, with the reasons in a table."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ort_rknn_converters.cli.convert_options import (
    CPU_NODES,
    check_values,
    listed,
    merged,
    names,
    pairs,
    pinned_sets,
    size,
    valued,
)
from ort_rknn_converters.cli.convert_report import Report
from ort_rknn_converters.cli.progress_bar import Drawn
from ort_rknn_converters.errors import ConvertError, NotAllOnNpu, UnknownTarget, WrongNumbers
from ort_rknn_converters.options import ALGORITHMS, KL, LIMIT, METRICS, PRECISIONS, ConvertOptions
from ort_rknn_converters.shape_sets import every_shape, shape_sets
from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.toolkit.early_start import started_early
from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.lazy_imports import defer_sympy

__all__ = ["command"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_COLLECT_AFTER = 50_000  # new objects; as for the toolkit's process
_GIVEN = "ort_rknn.convert.given"
NOT_POSSIBLE, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes


class _Convert(click.Command):
    """Keeps the command line as it was given: another machine gets it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_GIVEN] = list(args)
        return super().parse_args(ctx, args)


@click.command("convert", cls=_Convert)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: <stem>.rknn.onnx beside the model.")
@click.option(
    "--target",
    default=DEFAULT_TARGET,
    show_default=True,
    envvar="ORT_RKNN_TARGET",
    show_envvar=True,
    metavar="SOC[,SOC]",
    help="What to compile for; several in one file.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    show_default=True,
    help="How the NPU stores weights and activations.",
)
@click.option("--int8", "precision", flag_value="int8", help="Same as --precision int8.")
@click.option("--w4a16", "precision", flag_value="w4a16", help="Same as --precision w4a16, where the SoC has it.")
@click.option(
    "--calibration",
    metavar="PATH",
    help="What int8 and w4a16 are calibrated on: a folder of .npy, .npz or images, one such file, or a .txt that lists "
    "them.",
)
@click.option(
    "--calibration-limit", type=int, default=LIMIT, show_default=True, help="Samples used, evenly spaced over all."
)
@click.option(
    "--preprocess",
    default="",
    metavar="SPEC",
    help="Of images: 224x224,mean=123.7:116.3:103.5,std=58.4:57.1:57.4,rgb,nchw. Default: the input's size, 0 to 1.",
)
@click.option(
    "--quantized-algorithm",
    "--algorithm",
    "quantized_algorithm",
    type=click.Choice([*ALGORITHMS, KL]),
    metavar=f"[{'|'.join(ALGORITHMS[:-1])}|{KL}]",
    default="normal",
    show_default=True,
    help="How ranges are found from the calibration.",
)
@click.option(
    "--quantized-method",
    "--method",
    "quantized_method",
    default="channel",
    show_default=True,
    metavar="[channel|layer|group]",
    help="Weights that share a scale.",
)
@click.option("--max-loss", type=float, help="With --int8: error accepted; layers become fp16 until it holds.")
@click.option(
    "--metric", type=click.Choice(METRICS), default="cosine", show_default=True, help="What --max-loss means."
)
@click.option(
    "--shape",
    "--shapes",
    "shapes",
    multiple=True,
    callback=listed,
    metavar="NAME=1x3x224x224",
    help="Fix an input's shape. Several of one input are compiled one by one into one file; a session takes what fits.",
)
@click.option(
    "--dim", "--dims", "dims", multiple=True, callback=pairs(int), metavar="N=1", help="Fix a symbolic dimension."
)
@click.option(
    "--value",
    "--values",
    "values",
    multiple=True,
    callback=valued,
    metavar="NAME=0.25[,0.5]",
    help="Take an input for a constant: shapes and branches that hang on it become known. Several are compiled one by "
    "one into one file; a session takes what fits.",
)
@click.option(
    "--cpu-op",
    "--cpu-ops",
    "cpu_ops",
    multiple=True,
    callback=names,
    metavar="OP[,OP]",
    help="Keep all nodes of these ops on the CPU.",
)
@CPU_NODES
@click.option(
    "--disable-rule",
    "--disable-rules",
    "disable_rules",
    multiple=True,
    callback=names,
    metavar="RULE[,RULE]",
    help="Switch off graph rules of the toolkit for the whole model.",
)
@click.option(
    "--options",
    "options_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML or JSON of options, such as 'ort-rknn check --fix' writes; what is given here wins.",
)
@click.option("--npu-only", is_flag=True, help="Fail (exit code 1) if any node must stay on the CPU.")
@click.option(
    "--strict-numbers", is_flag=True, help="Fail (exit code 1) if the whole model is off beyond the tolerance."
)
@click.option(
    "--min-gain", type=float, default=1.0, show_default=True, help="Least estimated gain of a segment; 0: any."
)
@click.option("--external", is_flag=True, help="Put the compiled code beside the file instead of into it.")
@click.option("--strip", is_flag=True, help="Leave out the segments' own ONNX: then only an NPU can run them.")
@click.option(
    "--plugin",
    is_flag=True,
    help="For onnxruntime's plugin onnxruntime-ep-rknn: one shape, code beside the file, nothing else of the segments.",
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Segments to compile at once.")
@click.option(
    "--max-memory",
    default="0",
    callback=size,
    metavar="SIZE",
    help="Memory one compilation may take, e.g. 3G. Default: what is free.",
)
@click.option(
    "--compile-timeout-s",
    "--timeout",
    "timeout",
    type=float,
    default=600.0,
    show_default=True,
    help="Seconds one compilation may take.",
)
@click.option("--explain", is_flag=True, help="List every node with its place and the reason.")
@click.option("--plan-only", is_flag=True, help="Only say what would run where; needs no toolkit and writes nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--on",
    metavar="USER@PC",
    help="Convert on another machine, by ssh: the files go there, the result comes back. ort-rknn[convert] and the "
    "toolkit are needed there, not here.",
)
def command(
    model: Path,
    output: Path | None,
    on: str | None,
    options_file: Path | None,
    external: bool,
    strip: bool,
    plugin: bool,
    timeout: float,
    explain: bool,
    plan_only: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Convert the ONNX file MODEL for a Rockchip NPU.

    What the NPU cannot do right stays plain ONNX and runs on the CPU. Exit codes: 0 done, 1 nodes are left on the CPU
    and --npu-only was given, or the whole model is off and --strict-numbers was, 2 something is wrong with what was
    given, 130 interrupted.
    """
    try:
        if on is not None:
            _on_another_machine(on, model, output or _beside(model))
            return
        values = merged(options_file, {"timeout_s": timeout, **fields})
        check_values(model, values)
        shapes, targets = every_shape(values.pop("shapes", {})), values.pop("target").split(",")
        sets, pins = shape_sets(shapes), pinned_sets(model, values.pop("values", {}))
        for what, count in (("shape", len(sets)), ("value", len(pins))):
            if plugin and count > 1:
                raise ConvertError(
                    f"--plugin takes one {what} and got {count}: onnxruntime sees one form in a file. Convert once for "
                    f"each {what}, with -o for the names"
                )
        wanted = [
            ConvertOptions.of(**values, target=soc.strip(), shapes=one, values=pinned)
            for one in sets
            for pinned in pins
            for soc in targets
        ]
        report = Report(model, explain, as_json)
        if plan_only:
            with defer_sympy():
                from ort_rknn_converters.pipeline.convert import plan_only as only

            report.planned([(options, only(model, options=options)) for options in wanted])
            return
        how = _Form(external or plugin, strip or plugin, plugin)
        _convert(model, output or _beside(model), wanted, report, how)
    except NotAllOnNpu as error:
        from ort_rknn_converters.pipeline.advice import on_refusal

        _fail(on_refusal(str(error)), NOT_POSSIBLE)
    except WrongNumbers as error:
        _fail(str(error), NOT_POSSIBLE)
    except UnknownTarget as error:
        source = click.get_current_context().get_parameter_source("target")
        said = "environment variable ORT_RKNN_TARGET: " if source is ParameterSource.ENVIRONMENT else ""
        _fail(f"{said}{error}", BAD_INPUT)
    except (ConvertError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            # numpy does not say why a file could not be written whole.
            what = error.strerror or f"a temporary file could not be written ({error}); is the disk full?"
            reason = f"{error.filename or model}: {what}"
        _fail(reason, BAD_INPUT)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", INTERRUPTED)


def _on_another_machine(host: str, model: Path, output: Path) -> None:
    from ort_rknn_converters.cli.remote import RemoteJob, convert_on, options_of

    _check_output(model, output)
    context = click.get_current_context()
    options = options_of(context.command, context, context.meta[_GIVEN])
    if context.get_parameter_source("target") is ParameterSource.ENVIRONMENT and "options_file" not in options:
        options["target"] = context.params["target"]  # this machine's environment does not go there
    convert_on(RemoteJob(host, model, output, options), context.command)


@frozen
class _Form:
    """Form in which the file is written."""

    external: bool
    strip: bool
    plugin: bool


def _convert(model: Path, output: Path, wanted: list[ConvertOptions], report: Report, how: _Form) -> None:
    _check_output(model, output)
    if len(wanted) > 1:
        _convert_many(model, output, wanted, report, how)
        return
    options = wanted[0]
    began = time.perf_counter()
    _hoard_nothing()
    # Importing all that a conversion needs takes long enough to start the toolkit meanwhile.
    with started_early(model) as compile, Drawn(quiet=report.as_json) as progress:
        with defer_sympy():
            from ort_rknn_converters.pipeline.convert import convert
            from ort_rknn_converters.toolkit.status import prove

        compiled = convert(model, options=options, progress=progress, compile=compile, prove=prove)
        progress.report("save", str(output))
        files = compiled.save(output, embed=not how.external, strip=how.strip)
    report.converted(compiled, options, files, time.perf_counter() - began)
    gc.freeze()  # or Python looks for cycles once more before it ends (measured: 0.08 s)


def _convert_many(model: Path, output: Path, wanted: list[ConvertOptions], report: Report, how: _Form) -> None:
    """Several shapes, values or SoCs in one file."""
    began = time.perf_counter()
    with defer_sympy():
        from ort_rknn_converters.pipeline.convert_many import convert_bundle

    with Drawn(quiet=report.as_json) as progress:
        bundle = convert_bundle(str(model), wanted, progress=progress)
        if how.plugin and len(bundle.variants) > 1:
            raise ConvertError(
                "--plugin: the SoCs take different nodes onto the NPU, so that each needs a form of its own, and "
                "onnxruntime sees one form in a file. Convert once for each --target"
            )
        progress.report("save", str(output))
        files = bundle.save(output, embed=not how.external, strip=how.strip)
    report.converted_many(bundle.variants, wanted[0], files, time.perf_counter() - began)


def _check_output(model: Path, output: Path) -> None:
    if not output.parent.is_dir():
        raise ConvertError(f"{output} cannot be written: there is no folder {output.parent}")
    if output.exists() and not output.is_file():
        raise ConvertError(f"{output} is {'a folder' if output.is_dir() else 'no regular file'}: choose another output")
    if model.exists() and output.exists() and output.samefile(model):
        raise ConvertError(f"{output} is the model itself: choose another output")


def _hoard_nothing() -> None:
    """Let the C library give freed arrays back to the system at once: this process is ours, and weights are large.

    Small ones it keeps: to ask for them again and again takes longer than to compute with them.
    What Python's own collector looks for are cycles, of which the many objects of imports and graphs are hardly any.
    """
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 18)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 22)


def _beside(model: Path) -> Path:
    return model.with_name(f"{model.stem}.rknn.onnx")


def _fail(reason: str, code: int) -> None:
    click.echo(f"Error: {shown_lines(reason)}", err=True)
    sys.exit(code)
