"""Prints the results of ``ort-rknn convert``: plans with hints, and what was written, as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ort_rknn_converters.onnx_file.signature import declared_inputs
from ort_rknn_converters.util.foreign_text import shown, shown_lines
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.memory import peaks

if TYPE_CHECKING:
    from ort_rknn_converters.compiled.bundle import Variant
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.options import ConvertOptions
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["Report"]


@frozen
class Report:
    """Form in which results are shown.

    Attributes:
        model: What was converted.
        explain: Whether every node is listed.
        as_json: Whether all is printed as JSON.
    """

    model: Path
    explain: bool
    as_json: bool

    def planned(self, plans: Sequence[tuple[ConvertOptions, Plan]]) -> None:
        """Plans of which nothing was compiled, each with its options."""
        if self.as_json and len(plans) > 1:
            rows = [
                {
                    "shapes": dict(options.shapes),
                    "values": _plain_values(options.values),
                    "targets": [options.target],
                    "plan": plan.to_dict(),
                    "hints": self._hints(plan, options),
                }
                for options, plan in plans
            ]
            click.echo(json.dumps({"variants": rows}, indent=2))
            return
        for options, plan in plans:
            self._show(plan, options, {})
        if not self.as_json:
            click.echo("\na proposal, not verified: a conversion compiles and proves it, and may move nodes to the CPU")

    def converted(
        self, compiled: CompiledModel, options: ConvertOptions, files: tuple[Path, ...], seconds: float
    ) -> None:
        """A compiled model that was written to ``files``."""
        self._show(compiled.plan, options, _facts(compiled, files, seconds))
        if not self.as_json:
            _say_written(files, seconds, [compiled])

    def converted_many(
        self, variants: Sequence[Variant], options: ConvertOptions, files: tuple[Path, ...], seconds: float
    ) -> None:
        """Several forms of a model that were written to the same files; ``options`` are those of the first."""
        forms = [(variant, variant.load()) for variant in variants]
        if self.as_json:
            rows = [
                {
                    "shapes": variant.shapes,
                    "values": _plain_values(variant.values),
                    "targets": variant.targets,
                    **_facts(form, files, seconds),
                    "plan": form.plan.to_dict(),
                }
                for variant, form in forms
            ]
            click.echo(json.dumps({"variants": rows}, indent=2))
            return
        from ort_rknn_converters.partition.plan import render_plan

        for variant, form in forms:
            click.echo(f"{shown(variant)}\n{render_plan(form.plan, nodes=self.explain)}\n")
        _say_hints(dict.fromkeys(hint for _, form in forms for hint in self._hints(form.plan, options)))
        _say_written(files, seconds, [form for _, form in forms])

    def _show(self, plan: Plan, options: ConvertOptions, facts: dict[str, Any]) -> None:
        hints = self._hints(plan, options)
        if self.as_json:
            click.echo(json.dumps(facts | {"plan": plan.to_dict(), "hints": hints}, indent=2))
            return
        from ort_rknn_converters.partition.plan import render_plan  # slow to import, and mostly imported meanwhile

        click.echo(render_plan(plan, nodes=self.explain))
        _say_hints(hints)

    def _hints(self, plan: Plan, options: ConvertOptions) -> list[str]:
        from ort_rknn_converters.pipeline.advice import advice

        return list(advice(plan, options, declared_inputs(self.model)))


def _plain_values(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in values.items()}


def _facts(compiled: CompiledModel, files: tuple[Path, ...], seconds: float) -> dict[str, Any]:
    own, child = peaks()
    return {
        "files": [str(file) for file in files],
        "seconds": round(seconds, 3),
        "peak_memory": {"own": own, "largest_child": child},
        "toolkit_version": compiled.toolkit_version,
        "passes": list(compiled.passes),
    }


def _say_hints(hints: Iterable[str]) -> None:
    if text := "\n".join(f"hint: {hint}" for hint in hints):
        click.echo(f"\n{shown_lines(text)}")


def _say_written(files: tuple[Path, ...], seconds: float, forms: Sequence[CompiledModel]) -> None:
    size = sum(file.stat().st_size for file in files)
    others = len(files) - 1
    more = f" and {others} file{'s' if others > 1 else ''} beside it" if others else ""
    from ort_rknn_converters.partition.plan import size_text

    own, child = peaks()
    memory = f"memory at its peak: {own / 1e6:.0f} MB here"
    memory += f", {child / 1e6:.0f} MB in the largest process it started" if child else ""
    click.echo(f"\n{shown(files[0], 4096)}{more}: {size_text(size)}, converted in {seconds:.1f} s ({memory})")
    if parts := contents(size, forms):
        click.echo(parts)


def contents(size: int, forms: Sequence[CompiledModel]) -> str:
    """Sentence on what a file holds: code for the NPU, ONNX for the CPU, and what ``--strip`` would save.

    Args:
        size: Bytes of all that was written.
        forms: What it holds; several share weights, so that of these only the code can be told apart.
    """
    from ort_rknn_converters.partition.plan import size_text

    code = sum(blob.size for form in forms for step in form.npu_steps for blob in step.code.values())
    if not code:
        return "all of it is ONNX for the CPU: no part is for the NPU"
    rest = max(0, size - code)
    said = f"{size_text(min(code, size))} of it are NPU code, {size_text(rest)} ONNX for the CPU and simulators"
    kept = sum(step.onnx.size for step in forms[0].npu_steps if step.onnx is not None) if len(forms) == 1 else 0
    if 0 < kept < size - code:
        said += f"; of that --strip would save {size_text(kept)}, which only simulators and a board without an NPU need"
    return said
