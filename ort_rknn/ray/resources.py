"""Resources that a board offers to Ray, which knows no accelerator of others: custom resources are its way for them."""

from __future__ import annotations

__all__ = ["RESOURCE", "node_resources"]

RESOURCE = "rknpu"
"""Ray's resource of NPU cores, of any SoC; ``rknpu_rk3588`` and the like are those of one."""


def node_resources() -> dict[str, int]:
    """Counts this machine's NPU cores, for ``ray start --resources``; empty where no NPU works.

    Example:
        >>> node_resources()  # doctest: +SKIP
        {'rknpu': 3, 'rknpu_rk3588': 3}
    """
    from ort_rknn.opening.choose_device import DeviceOptions, choose

    device = choose("npu", DeviceOptions()).device
    if device is None:
        return {}
    try:
        cores = int(device.cores)
        target = str(getattr(device, "target", "") or "")
    finally:
        device.close()
    return {RESOURCE: cores, **({f"{RESOURCE}_{target}": cores} if target else {})}
