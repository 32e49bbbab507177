"""DPO and OFS-DPO steps against TRL's at one shape and length: speed, MFU, memory."""

from typing import Any

from benchmarks.gpu.machine import device_name, peak
from benchmarks.gpu.schedule import Tell
from benchmarks.gpu.setting import Setting
from benchmarks.speed.turns import compare


def measure(setting: Setting, shape: str, length: int, tell: Tell) -> dict[str, Any]:
    """As `compare`, with each system's MFU.

    The MFU is unavoidable operations per second as a share of the vendor's peak, None if that is
    unknown.
    """
    comparison, vendor_peak = setting.comparison(shape, length), peak(device_name())

    def with_mfu(results: dict[str, Any]) -> dict[str, Any]:
        for row in results["systems"].values():
            if "flop_per_s" in row:
                row["mfu"] = row["flop_per_s"] / vendor_peak if vendor_peak else None
        return results

    results = compare(
        comparison,
        setting.systems,
        rounds=setting.rounds,
        tell=lambda so_far: tell(with_mfu(so_far)),
    )
    return with_mfu(results)
