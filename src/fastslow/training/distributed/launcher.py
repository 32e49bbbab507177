"""Checks the number of processes against what the launcher announced in the environment."""

import os

from fastslow.errors import ConfigError

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which torchrun and MPI launchers announce how many processes they start."""

HOW = (
    "To train in 2 processes: torchrun --nproc_per_node 2 -m fastslow train ..., on a CPU with "
    "train.device=cpu. For one process: fastslow train ..."
)


def check_announced(size: int) -> None:
    """Raise ConfigError if a launcher announced more than the `size` processes that exist.

    Each process would train alone, and each machine a different model.
    """
    announced = max(int(os.environ.get(name, 1)) for name in SIZES)
    if announced > size:
        raise ConfigError(
            f"launcher: it announced {announced} processes, but {size} "
            f"{'has' if size == 1 else 'have'} joined. {HOW}"
        )
    if size == 1 and _accelerate_announced_several():
        raise ConfigError(
            "launcher: accelerate was asked for several processes or machines, but started one: "
            f"with --cpu, or with one GPU, it starts no more without MPI. {HOW}"
        )


def _accelerate_announced_several() -> bool:
    """When accelerate's launcher starts a single process, it sets a master address only if several
    were requested, and does not say how many."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    size_known = any(name in os.environ for name in SIZES)
    return launched and "MASTER_ADDR" in os.environ and not size_known
