"""A page is drawn and read by RapidOCR, twice: with onnxruntime, and with its networks on the NPU. ``make demo-ocr``.

RapidOCR is not changed: ``ort_rknn.install()`` stands in for onnxruntime, and two environment variables say that
programs which ask for the CPU shall get the NPU. The exit code is 1 when a promise made below does not hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from page import POSTER
from page import draw as draw_page
from picture import Line, Network
from picture import draw as draw_picture
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "out"
TARGET = "rk3588"
LEAST_NPU_SHARE = 0.9
PARTS = {
    "finds the lines": ("text_det", "infer"),
    "turns them upright": ("text_cls", "infer"),
    "reads them": ("text_rec", "session"),
}

console = Console(highlight=False, width=min(Console().width, 110))


def main() -> int:
    start = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    heading(1, "A page, drawn just now")
    page = draw_page(POSTER, OUT / "page.png")
    console.print(f"{page}: {len(POSTER.lines)} pieces of text")

    heading(2, "Read by RapidOCR on onnxruntime, in a process of its own")
    plain, plain_s = read_in_a_process(page)
    console.print(f"{len(plain)} lines in {plain_s:.1f} s, the start included")

    heading(3, f"Read by the same program, its networks on the simulated {TARGET}")
    os.environ.update(ORT_RKNN_PROMOTE_CPU="1", ORT_RKNN_DEVICE="simulator", ORT_RKNN_TARGET=TARGET)
    os.environ.update(ORT_RKNN_COMPILE="load")  # wait for the compiler instead of starting on the CPU
    console.print("compiling its three networks takes about a minute on an idle PC; later they come from the cache")
    with console.status("reading, or compiling what is new ..."):
        lines, networks, first_s, again_s = read_here(page, plain)
    console.print(f"first reading {first_s:.1f} s, second {again_s:.1f} s")

    heading(4, "What was read, and what ran where")
    console.print(text_table(lines))
    console.print(network_table(networks))
    picture = OUT / "ocr.png"
    subtitle = f"RapidOCR 1.4.4, unmodified; its networks compiled for the {TARGET} and run on the simulated NPU"
    draw_picture(picture, page, lines, networks, subtitle)

    heading(5, "What was promised, what came out")
    same = [line.text for line in lines] == [line["text"] for line in plain]
    promises = [
        ("the same text as with onnxruntime", f"{sum(line.same for line in lines)} of {len(plain)} lines", same)
    ]
    for network in networks:
        share = network.npu / max(network.npu + network.cpu, 1)
        promises.append((f"the network that {network.name}", f"{share:.0%} on the NPU", share >= LEAST_NPU_SHARE))
    table = Table("promise", "came out", "")
    for promise, came_out, kept in promises:
        table.add_row(promise, came_out, "[green]kept[/green]" if kept else "[red]broken[/red]")
    console.print(table)
    console.print(f"picture: {picture}   ({time.perf_counter() - start:.0f} s in all)")
    return 0 if all(kept for *_, kept in promises) else 1


def read_in_a_process(page: Path) -> tuple[list[dict[str, Any]], float]:
    """What ``python read_page.py`` prints, and the seconds it took."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / "read_page.py"), str(page)], check=True, capture_output=True, text=True
    )
    lines: list[dict[str, Any]] = json.loads(done.stdout)["lines"]
    return lines, time.perf_counter() - begin


def read_here(page: Path, plain: list[dict[str, Any]]) -> tuple[list[Line], list[Network], float, float]:
    """Read the page with the shim in onnxruntime's place; also where each network ran, and two times in seconds."""
    import ort_rknn

    ort_rknn.install()
    from rapidocr_onnxruntime import RapidOCR

    reader = RapidOCR()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        found, _ = reader(str(page))
        times.append(time.perf_counter() - begin)
    texts = {line["text"] for line in plain}
    lines = [Line(text, float(score), box, text in texts) for box, text, score in found]
    return lines, [network(name, session_of(reader, way)) for name, way in PARTS.items()], times[0], times[1]


def session_of(reader: Any, way: tuple[str, ...]) -> Any:
    """The onnxruntime session inside a part of RapidOCR."""
    for name in way:
        reader = getattr(reader, name)
    return reader.session


def network(name: str, session: Any) -> Network:
    """Where a session's nodes ran, by its plan."""
    plan = session.plan
    npu = plan.npu_nodes
    ready = [state.shapes for state in session.shape_states if state.state == "ready"]
    shapes = [" and ".join("x".join(map(str, shape)) for shape in shapes.values()) for shapes in ready]
    return Network(name, npu, len(plan.nodes) - npu, tuple(shapes))


def text_table(lines: list[Line]) -> Table:
    """The lines that were read."""
    table = Table("text", "sure", "as with onnxruntime")
    for line in lines:
        table.add_row(line.text, f"{line.score:.0%}", "yes" if line.same else "[red]no[/red]")
    return table


def network_table(networks: list[Network]) -> Table:
    """What ran where."""
    table = Table("network", "nodes on the NPU", "on the CPU", "shapes")
    for row in networks:
        table.add_row(f"{row.name}", str(row.npu), str(row.cpu), ", ".join(row.shapes))
    return table


def heading(number: int, text: str) -> None:
    """Announce a step."""
    console.print(f"\n[bold]{number}  {text}[/bold]")


if __name__ == "__main__":
    raise SystemExit(main())
