"""Writes docs/coverage.md: what of the shaped models runs where and why, how right it is, and what of the standard.

python -m docs.write_coverage                          converts every model for every SoC: minutes, needs the toolkit
python -m docs.write_coverage --cases out/*.json       adds what `make conformance-nodes TARGET=...` wrote
python -m docs.write_coverage ... --field out/field.json    and `ort-rknn conformance --source field --json ...`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ort_rknn_conformance.report import json_report
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.plan import Plan
from ort_rknn_converters.pipeline.convert import convert

PAGE = Path(__file__).with_name("coverage.md")
sys.path.insert(0, str(PAGE.parents[1]))

from benchmarks.models import DIMS, MODELS  # noqa: E402 - found only from the project's root
from docs.markdown import table  # noqa: E402

TARGETS = ("rk3588", "rk3576", "rk3566")


@dataclass(frozen=True)
class Row:
    """One model on one SoC."""

    model: str
    target: str
    plan: Plan
    seconds: float

    def cells(self) -> list[str]:
        """Columns of the table; times and sizes of the compiled code."""
        parts = self.plan.segments
        worst = max((part.rel_rms or 0.0 for part in parts), default=None)
        size = sum(part.size or 0 for part in parts)
        return [
            self.target,
            f"{self.plan.npu_nodes} of {len(self.plan.nodes)}",
            str(len(parts)),
            "" if worst is None else f"{worst:.1e}",
            self.whole(),
            f"{size / 1e6:.1f} MB",
            f"{self.seconds:.1f} s",
            "; ".join(self.reasons()) or "all on the NPU",
        ]

    def whole(self) -> str:
        """The whole model's error, and what is wrong with it."""
        found = self.plan.whole
        if found is None:
            return ""
        size = "" if found.rel_rms is None else f"{found.rel_rms:.1e}"
        return "; ".join(filter(None, (size, found.warning)))

    def reasons(self) -> Iterator[str]:
        """Why nodes are on the CPU, most frequent reason first, each with its ops."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for node in self.plan.nodes:
            if node.place == "CPU":
                found[node.reason][node.op_type] += 1
        for reason, ops in sorted(found.items(), key=lambda item: -sum(item[1].values())):
            yield f"{reason} ({', '.join(f'{count} {op}' for op, count in ops.most_common())})"


def convert_all(models: Sequence[str], targets: Sequence[str]) -> Iterator[Row]:
    """Convert, and say on stderr what is being done."""
    for name in models:
        for target in targets:
            began = time.perf_counter()
            options = ConvertOptions.of(target=target, dims=DIMS.get(name, {}))
            plan = convert(MODELS[name](), options=options).plan
            row = Row(name, target, plan, time.perf_counter() - began)
            print(name, *row.cells()[:7], file=sys.stderr, flush=True)
            yield row


def models_section(rows: Sequence[Row]) -> Iterator[str]:
    """The shaped models."""
    yield "## Shaped models"
    yield ""
    yield "Real topologies and sizes with random weights (`benchmarks/models.py`), default options: the cost rule keeps"
    yield "on the CPU what would not pay. `rel RMS` is the largest relative error of a part, the vendor's simulator"
    yield "against onnxruntime on random inputs; 5e-3 is accepted, 2e-2 after a softmax. `whole model` is the same of"
    yield "the model's outputs, every node on the NPU rounded by our own simulator. `conversion` is the time on a PC"
    yield "that did other work, too. No board was asked."
    header = ("SoC", "nodes on the NPU", "parts", "rel RMS", "whole model", "code", "conversion", "on the CPU, and why")
    for name in dict.fromkeys(row.model for row in rows):
        yield ""
        yield f"### {name}"
        yield ""
        yield from table(header, [row.cells() for row in rows if row.model == name])


def field_section(file: str) -> Iterator[str]:
    """The cases from the field of one run."""
    head, found = json_report.read(file)
    results = list(found)
    right = sum(one.verdict == "right" for one in results)
    yield ""
    yield "## Cases from the field"
    yield ""
    yield "Small models after what people complained about (`ort-rknn conformance --source field`), cost rule off, our"
    yield "session compared with onnxruntime's CPU on inputs of the kind that went wrong: recordings from loud to"
    yield "silent, ids up to 60,000 as floats, sizes in pixels."
    yield f"{head['target']}, {head['flow']}: {right} of {len(results)} right."
    yield ""
    header = ("case", "nodes on the NPU", "rel RMS", "")
    rows = [
        [
            one.case.removeprefix("field/"),
            f"{one.npu_nodes} of {one.nodes}",
            f"{max((output.rel_rms for output in one.outputs), default=0.0):.1e}",
            one.verdict if one.verdict == "right" else f"{one.verdict}: {one.message}",
        ]
        for one in results
    ]
    yield from table(header, rows)


def cases_section(files: Sequence[str]) -> Iterator[str]:
    """The standard's cases of each run given."""
    yield ""
    yield "## Cases of the ONNX standard"
    yield ""
    yield "Backend test cases of the `onnx` package, cost rule off, our session compared with onnxruntime's CPU."
    yield "*unsupported*: onnxruntime itself cannot run the case."
    for file in files:
        head, results = json_report.read(file)
        found = list(results)
        on_npu = [one for one in found if one.verdict == "right" and one.npu_nodes]
        counts = Counter(one.verdict for one in found)
        yield ""
        yield f"### {head['target']}, {head['flow']} ({head['precision']})"
        yield ""
        total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        yield f"{len(found)} cases: {total}. {len(on_npu)} of the right ones have nodes on the NPU."
        for one in found:
            if one.bad:
                yield ""
                yield f"- `{one.case}`: {one.verdict}, {one.message}"
        rows = list(by_op(found))
        if rows:  # older runs do not name ops
            yield ""
            yield from table(("op", "cases", "right", "of these with NPU nodes", "not right"), rows)


def by_op(results: Sequence[CaseResult]) -> Iterator[list[str]]:
    """Cases that onnxruntime runs, by the ops in them."""
    cases: dict[str, list[CaseResult]] = defaultdict(list)
    for one in results:
        if one.verdict not in ("unsupported", "skipped"):
            for op in one.ops:
                cases[op].append(one)
    for op, found in sorted(cases.items()):
        right = [one for one in found if one.verdict == "right"]
        npu = sum(one.npu_nodes > 0 for one in right)
        yield [op, str(len(found)), str(len(right)), str(npu), str(len(found) - len(right))]


def main() -> None:
    """Convert and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--cases", nargs="*", default=[], help="JSON files of `ort-rknn conformance`")
    parser.add_argument("--field", help="JSON file of `ort-rknn conformance --source field`")
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    lines = [
        "# What of which models runs on the NPU, and how right it is",
        "",
        "Written by `python -m docs.write_coverage --cases out/*.json` after `make conformance-nodes` for each",
        "`TARGET`; do not edit.",
        "",
    ]
    lines += models_section(list(convert_all(arguments.models, arguments.targets)))
    if arguments.field:
        lines += field_section(arguments.field)
    if arguments.cases:
        lines += cases_section(arguments.cases)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
