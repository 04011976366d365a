"""Small models after what people complained about: on each of them an NPU's answer was once wrong, slow or none.

A complaint that was mended becomes a case here, so that it stays mended. The models are made when they are asked for;
their weights are random, what is in them is the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from ort_rknn_conformance.case import Case
from ort_rknn_conformance.sources.field import (
    attention,
    ids,
    norms,
    positions,
    quantized,
    quantizer,
    recurrent,
    spectra,
)

__all__ = ["cases"]

_FAMILIES = (attention, ids, norms, positions, quantized, quantizer, recurrent, spectra)


def cases(patterns: Sequence[str] = ()) -> Iterator[Case]:
    """All cases whose name matches one of the shell patterns (all cases without any).

    Names are ``field/spectra/log_power`` ... A pattern without ``*`` matches inside a name.
    """
    wanted = [pattern if "*" in pattern else f"*{pattern}*" for pattern in patterns]
    for family in _FAMILIES:
        kind = family.__name__.rpartition(".")[2]
        for name, make in family.MODELS.items():
            full = f"field/{kind}/{name}"
            if not wanted or any(fnmatchcase(full, pattern) for pattern in wanted):
                model, feeds = make()
                yield Case(full, model.SerializeToString(), tuple(feeds))
