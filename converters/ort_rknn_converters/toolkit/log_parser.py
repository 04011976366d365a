"""Reads what the toolkit printed: the compiler's layer table, ops it has no lowering for, and why it refused."""

from __future__ import annotations

import re

from ort_rknn_converters.util.frozen import frozen

__all__ = ["LayerRow", "clean", "errors", "last_error", "last_words", "layers", "no_lowering", "tail"]

WIDTH = 500  # of a log line in an exception
TABLE_TITLE = "Network Layer Information Table"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^[DIWE] RKNN: \[[0-9:.]+\] ?")
_NO_LOWERING = re.compile(r"No lowering found for: (?P<tensor>.*?), node type = (?P<op>\w+), use CustomOperatorLower")
_ERROR_LINE = re.compile(r"^E (?:RKNN: \[[0-9:.]+\] )?(?P<text>.*\S)")
_NOISE = ("Unkown op target: 0",)  # printed for almost every good model


@frozen
class LayerRow:
    """One line of the compiler's layer table.

    Attributes:
        id: Position in the order of execution.
        op_type: The compiler's op, after fusing.
        dtype: Such as ``FLOAT16``.
        target: ``NPU``, ``CPU`` or ``GPU``.
        name: ``OpType:output tensor``, empty where the compiler fused it into a neighbour.
        input_shape: As printed.
        output_shape: As printed.
        cycles: The compiler's own estimates: DDR, NPU and total clock cycles.
        rw_kb: Kilobytes moved, as estimated.
    """

    id: int
    op_type: str
    dtype: str
    target: str
    name: str
    input_shape: str
    output_shape: str
    cycles: tuple[int, int, int]
    rw_kb: float


def clean(log: str) -> str:
    """The log without terminal colours."""
    return _ANSI.sub("", log)


def _cells(header: str, columns: list[tuple[str, int]], line: str) -> dict[str, str]:
    """By the header's columns; a word too long for its own (``BatchNormalizationRelu``) moves all that follow it."""
    ends = [start for _, start in columns[1:]] + [max(len(line), len(header))]
    cells, begin, moved = {}, columns[0][1], 0
    for (name, _), column_end in zip(columns, ends, strict=True):
        end = column_end + moved
        while end < len(line) and line[end - 1] != " ":
            end += 1
            moved += 1
        cells[name] = line[begin:end].strip()
        begin = end
    return cells


def _row(header: str, columns: list[tuple[str, int]], line: str) -> LayerRow | None:
    cells = _cells(header, columns, line)
    cycles = cells.get("Cycles(DDR/NPU/Total)", "").split("/")
    if not cells.get("ID", "").isdigit() or len(cycles) != 3 or not all(cycle.isdigit() for cycle in cycles):
        return None
    try:
        moved = float(cells.get("RW(KB)", "") or 0)
    except ValueError:
        moved = 0.0
    return LayerRow(
        id=int(cells["ID"]),
        op_type=cells.get("OpType", ""),
        dtype=cells.get("DataType", ""),
        target=cells.get("Target", ""),
        name=cells.get("FullName", ""),
        input_shape=cells.get("InputShape", ""),
        output_shape=cells.get("OutputShape", ""),
        cycles=(int(cycles[0]), int(cycles[1]), int(cycles[2])),
        rw_kb=moved,
    )


def layers(log: str) -> tuple[LayerRow, ...]:
    """The rows of the compiler's layer table (of the first one, where a file has one per dynamic shape set)."""
    rows: list[LayerRow] = []
    header, columns = "", []
    waiting = True
    for raw in log.splitlines():
        line = _PREFIX.sub("", raw)
        if TABLE_TITLE in line:
            if rows:
                break
            waiting = False
        elif not waiting and line.startswith("ID ") and "OpType" in line:
            header = line
            columns = [(match.group(), match.start()) for match in re.finditer(r"\S+", line)]
        elif columns:
            row = _row(header, columns, line)
            if row is not None:
                rows.append(row)
            elif rows and line.startswith("---"):
                break
    return tuple(rows)


def no_lowering(log: str) -> tuple[tuple[str, str], ...]:
    """Each (tensor, op type) the compiler knows no code for: such a file cannot run on a board."""
    found = {(match["tensor"].strip(), match["op"]): None for match in _NO_LOWERING.finditer(log)}
    return tuple(found)


def errors(log: str) -> tuple[str, ...]:
    """Lists what the toolkit marked as an error, each once, in order; it often delivers a file all the same.

    Such a file simulates right and may still be wrong on a board: ``REGTASK: The bit width of field value exceeds the
    limit`` means that a size did not fit into a register of the NPU (seen with a dimension of 8,400).
    """
    found = (match["text"] for match in map(_ERROR_LINE.match, log.splitlines()) if match)
    return tuple(dict.fromkeys(text for text in found if not any(noise in text for noise in _NOISE)))


def last_error(log: str) -> str:
    """The last line the toolkit itself marked as an error, or nothing."""
    return (errors(log) or ("",))[-1]


def last_words(log: str) -> str:
    """Last lines before a crash, without the traceback that Python prints after them."""
    before, _, _ = log.partition("Fatal Python error:")
    lines = [_PREFIX.sub("", line).strip()[:WIDTH] for line in before.splitlines()]
    said = [line for line in lines if line and not any(noise in line for noise in _NOISE)]
    return said[-1] if said else ""


def tail(log: str, lines: int = 25) -> str:
    """The last lines of a log, without empty ones and without Python's list of loaded modules after a crash."""
    kept = [line[:WIDTH] for line in log.splitlines() if line.strip() and not line.startswith("Extension modules:")]
    return "\n".join(kept[-lines:])
