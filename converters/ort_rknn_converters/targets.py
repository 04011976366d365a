"""The SoCs with an RKNPU that rknn-toolkit2 2.5.0 compiles for, as a frozen table.

Core counts and compiler families are the vendor's (toolkit documentation 2.3.2 and the family string that the
2.5.0 compiler writes into each file). ``fp16`` is false where the toolkit itself refuses to build a float model.
"""

from __future__ import annotations

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
        :mod:`ort_rknn_converters.rknn_format.reader` reads
            (the mini format of rv110x and rk2118 is not).
        aliases: Other names the device tree or users give it.
    """

    name: str
    cores: int
    family: str
    fp16: bool = True
    w4a16: bool = False
    int8: bool = True
    flatbuffer: bool = True
    aliases: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("rk3588", 3, "RKNPU v2", aliases=("rk3588s", "rk3588s2", "rk3582")),
        Target("rk3576", 2, "RKNPU f2", w4a16=True, aliases=("rk3576s",)),
        Target("rk3566", 1, "RKNPU lite"),
        Target("rk3568", 1, "RKNPU lite"),
        Target("rk3562", 1, "RKNPU t4"),
        Target("rv1126b", 1, "RKNPU f3", w4a16=True),
        Target("rv1103", 1, "mini", fp16=False, flatbuffer=False),
        Target("rv1103b", 1, "mini", fp16=False, flatbuffer=False),
        Target("rv1106", 1, "mini", fp16=False, flatbuffer=False),
        Target("rv1106b", 1, "mini", fp16=False, flatbuffer=False),
        Target("rk2118", 1, "mini", int8=False, flatbuffer=False),
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
