"""The SoCs with an RKNPU that rknn-toolkit2 2.5.0 compiles for, and all that is known of each, as a frozen table.

Core counts and compiler families are the vendor's (toolkit documentation 2.3.2 and the family string that the
2.5.0 compiler writes into each file). ``fp16`` is false where the toolkit itself refuses to build a float model.
"""

from __future__ import annotations

from typing import Literal

from ort_rknn_converters.errors import UnknownTarget
from ort_rknn_converters.util.frozen import frozen

__all__ = ["DEFAULT_TARGET", "TARGETS", "Target", "find_target"]

DEFAULT_TARGET = "rk3588"


@frozen
class Target:
    """One SoC.

    Attributes:
        name: The toolkit's name, lower case.
        cores: NPU cores that can work independently.
        family: The compiler's name of the NPU generation (root string 1 of a ``.rknn`` file).
        fp16: Whether float models can be compiled without quantization.
        w4a16: Whether the toolkit accepts 4-bit weights with 16-bit activations.
        int8: Whether the toolkit accepts 8-bit weights and activations.
        flatbuffer: Whether its ``.rknn`` files are the FlatBuffer form that
            :mod:`ort_rknn_converters.rknn_format.reader` reads (the mini format of rv110x and rk2118 is not).
        small_npu: Whether only the ops at the heart of a CNN are proposed for it: what its NPU takes was never
            tabulated by us.
        runtime_cpu_ops: Which ops the board's runtime computes on its CPU inside a segment, by the vendor's
            documentation 2.3.2 (chapter 4): ``all`` of the list, a ``few`` or ``none``.
        max_rank: Most dimensions of an op's tensors, reshapes and transposes apart: with six the compiler corrupts its
            memory (seen on rk3566 with Mul and Gather; its siblings share the compiler family or are too rare to risk).
            ``None``: no limit is known.
        softmax_on_cpu: Whether the compiler puts Softmax on the board's CPU, whose kernel is documented for batch 1
            (placement seen in the compiler's layer tables; the batch rule is the vendor's list).
        long_reshapes_overflow: Whether a Reshape of long rows is known not to fit the NPU's registers (seen for rk3588
            only).
        dilated_pools: Whether pooling takes dilations (seen for rk3588 and rk3566; for rk3576 the compiler aborts at
            those of a MaxPool and drops those of an AveragePool).
        core_masks: Core masks that rknn-toolkit-lite2 passes on as given; with none, any mask makes its
            ``init_runtime`` fail (seen in 2.5.0).
        aliases: Other names the device tree or users give it.
    """

    name: str
    cores: int
    family: str
    fp16: bool = True
    w4a16: bool = False
    int8: bool = True
    flatbuffer: bool = True
    small_npu: bool = False
    runtime_cpu_ops: Literal["all", "few", "none"] = "all"
    max_rank: int | None = None
    softmax_on_cpu: bool = False
    long_reshapes_overflow: bool = False
    dilated_pools: bool = True
    core_masks: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()


def _mini(name: str) -> Target:
    return Target(name, 1, "mini", fp16=False, flatbuffer=False, small_npu=True, runtime_cpu_ops="few")


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            *("rk3588", 3, "RKNPU v2"),
            long_reshapes_overflow=True,
            core_masks=(1, 2, 4, 3, 7),
            aliases=("rk3588s", "rk3588s2", "rk3582"),
        ),
        Target(
            *("rk3576", 2, "RKNPU f2"),
            w4a16=True,
            dilated_pools=False,
            core_masks=(1, 2, 3),
            aliases=("rk3576s",),
        ),
        Target("rk3566", 1, "RKNPU lite", max_rank=5, softmax_on_cpu=True),
        Target("rk3568", 1, "RKNPU lite", max_rank=5, softmax_on_cpu=True),
        Target("rk3562", 1, "RKNPU t4", max_rank=5),
        Target("rv1126b", 1, "RKNPU f3", w4a16=True),
        _mini("rv1103"),
        _mini("rv1103b"),
        _mini("rv1106"),
        _mini("rv1106b"),
        Target("rk2118", 1, "mini", int8=False, flatbuffer=False, small_npu=True, runtime_cpu_ops="none"),
    )
}


def find_target(name: str) -> Target:
    """Return the target called ``name`` (any case, aliases included).

    Raises:
        UnknownTarget: No such SoC; the message lists the known ones.
    """
    key = str(name).strip().lower()
    for target in TARGETS.values():
        if key == target.name or key in target.aliases:
            return target
    raise UnknownTarget(f"unknown target {name!r}. Known targets: {', '.join(TARGETS)}")
