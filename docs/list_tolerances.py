"""Writes docs/tolerances.md from the tolerances in the code.

python -m docs.list_tolerances           rewrites it
python -m docs.list_tolerances --check   exit code 1 when it is out of date
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docs.markdown import table, write_or_check
from ort_rknn_conformance.run.tolerances import EXPLAINED
from ort_rknn_converters.numerics.output_errors import LIMIT
from ort_rknn_converters.numerics.tolerance import probability_step
from ort_rknn_converters.numerics.value_groups import APART, FEWEST, LONGEST

PAGE = Path(__file__).with_name("tolerances.md")


def lines() -> Iterator[str]:
    """The page."""
    yield "# Tolerances, and what they leave open"
    yield ""
    yield "Written by `python -m docs.list_tolerances` from the code; do not edit."
    yield ""
    yield "`ort-rknn check` compares each output with CPU onnxruntime's. The measure that decides is the *relative RMS error*: the usual size"
    yield "of the difference, divided by the usual size of the expected values. 0.01 means that a value is usually off by a hundredth of what"
    yield "values of that output usually are. Whole numbers, truth values and texts must be equal."
    yield ""
    rows = [(one.case, f"{one.limit:g}", f"{one.groups:g}", one.decision, one.source) for one in EXPLAINED]
    yield from table(
        ("output", "limit", "limit of a group", "what it leaves open", "where the number comes from"), rows
    )
    yield ""
    yield "What a limit leaves open is arithmetic, not a measurement: no data set stands behind it. Only your own data with labels"
    yield "(`--data`, `--labels`) say how often a decision changes. `--tolerance` takes the place of the limits."
    yield ""
    yield "## Groups"
    yield ""
    yield "One output may hold values of different sizes: boxes in pixels up to 640 beside scores up to 1. Over the whole output the scores"
    yield "weigh nothing, and all of them could be lost at a relative RMS error of 0.008. So channels or columns of different sizes are found"
    yield "from the data, each group is judged by itself, and the worst decides."
    yield ""
    yield f"- Two neighbours in size belong to different groups from a ratio of {APART:g} on (a guess)."
    yield f"- Only axes of at most {LONGEST} indices are looked at: longer ones are of places or anchors (a guess)."
    yield f"- An index needs at least {FEWEST} elements, over all samples: one value or two may be small by chance (a guess)."
    yield "- A group of smaller values may be off by five times the output's limit, but never by more than half of its values (a guess): a"
    yield "  sigmoid makes the error of a small score larger than that of its argument. A group that is lost is off by 1."
    yield "- A difference below float32's own rounding of the output's largest value is nothing: sums that should be 0 are off by that much."
    yield "- Values from 0 to 1 that are off by no more than one step of the precision agree: "
    yield f"  {probability_step('fp16'):.1g} in fp16, {probability_step('int8'):.1g} in int8. Where all of a group is smaller than that, the table"
    yield "  says that the data hold nothing to judge."
    yield ""
    yield "## The same limits elsewhere"
    yield ""
    yield "Each compiled segment is verified against the same limits before it is used, with the vendor's simulator and random inputs (for int8"
    yield f"the calibration data). The whole model is measured once more; beyond {LIMIT:g} nodes move to the CPU, or a warning says by how much it is"
    yield "off. The error beside a promise (`--max-loss`) is the promise's own measure, over the calibration samples that the plan counts."


if __name__ == "__main__":
    raise SystemExit(write_or_check(PAGE, lines()))
