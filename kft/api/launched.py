"""What a launcher says of this process, before torch is loaded."""

from __future__ import annotations

import os

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_LOCAL_RANKS = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")
_OTHERS = {
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "it takes models of its own"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "A parallelism configuration",
        "kft splits rows among processes, not layers or sequences",
    ),
}
"""What ``accelerate launch`` may be told to use -> its name, and why kft doesn't."""


def num_launched() -> int:
    """Processes that were launched together, as far as this one's environment tells.

    ``torchrun``, ``accelerate launch`` and MPI say it; so does ``srun`` of each of its tasks.
    """
    return max(num_joined(), _number(("SLURM_STEP_NUM_TASKS",), 1))


def num_joined() -> int:
    """The same without ``srun``, whose tasks may well have nothing to do with each other."""
    return _number(_SIZES, 1)


def launched_rank() -> int:
    """This process's number among them; 0 is the main one, and where there is one only."""
    return _number(_RANKS, 0) if num_joined() > 1 else 0


def num_local() -> int:
    """Those of them on this machine."""
    return _number(("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"), 1)


def repeats_another() -> bool:
    """Whether another process of this machine reads the same files and says the same of them."""
    return launched_rank() > 0 and _number(_LOCAL_RANKS, 0) > 0


def refused_strategy() -> tuple[str, str] | None:
    """What ``accelerate launch`` was told to use that kft doesn't, and why; ``None``: nothing."""
    for variable, told in _OTHERS.items():
        if says_yes(variable):
            return told
    return None


def fsdp_asked() -> bool:
    """Whether ``accelerate launch`` was told to share the weights among the processes."""
    return says_yes("ACCELERATE_USE_FSDP")


def zero_asked() -> bool:
    """Whether ``accelerate launch`` was told to let DeepSpeed share the run's state."""
    return says_yes("ACCELERATE_USE_DEEPSPEED")


def says_yes(variable: str) -> bool:
    """Whether an environment variable is set to what accelerate takes for a yes."""
    return os.environ.get(variable, "").lower() in {"1", "true", "t", "yes", "y", "on"}


def lacks_address() -> bool:
    """Whether several processes were launched by hand, with no place to find each other."""
    needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    return _number(_SIZES[:1], 1) > 1 and any(name not in os.environ for name in needed)


def launcher_gave_up() -> bool:
    """Whether ``accelerate launch --cpu --num_processes N`` started one process only.

    It needs MPI for more of them on CPUs. Without, it sets an address to meet at, and nothing else.
    """
    is_alone = not any(name in os.environ for name in (*_SIZES, *_RANKS))
    asked = "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ
    return is_alone and asked


def _number(names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return default
