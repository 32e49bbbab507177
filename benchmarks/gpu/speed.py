"""Steps of DPO and OFS-DPO against TRL's at one shape and length: pace, MFU, memory."""

from typing import Any

from benchmarks.gpu.machine import device_name, peak
from benchmarks.gpu.schedule import Tell
from benchmarks.gpu.setting import Setting
from benchmarks.speed.turns import compare


def measure(setting: Setting, shape: str, length: int, tell: Tell) -> dict[str, Any]:
    """As `compare`, with each system's MFU.

    The MFU is the share of the maker's peak that unavoidable operations reach, and None where that
    peak is not known.
    """
    comparison, most = setting.comparison(shape, length), peak(device_name())

    def with_mfu(found: dict[str, Any]) -> dict[str, Any]:
        for row in found["systems"].values():
            if "flop_per_s" in row:
                row["mfu"] = row["flop_per_s"] / most if most else None
        return found

    found = compare(
        comparison,
        setting.systems,
        rounds=setting.rounds,
        tell=lambda so_far: tell(with_mfu(so_far)),
    )
    return with_mfu(found)
