"""What every model server process does first: limit its threads, and end with the process that started it."""

import os
import threading
import time
from functools import cache
from typing import Final

_POLL_SECONDS: Final = 0.5
_POOLS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_WAIT_POLICY: Final = "OMP_WAIT_POLICY"


def limit_thread_pools(threads: int) -> None:
    """Set the pools' variables where unset. They are read once, so call it before NumPy or PyTorch is imported."""
    for variable in _POOLS:
        os.environ.setdefault(variable, str(threads))
    # Idle threads sleep rather than spin: spinning takes the cores from the database and other functions, and where
    # those are busy it makes the model itself many times slower.
    os.environ.setdefault(_WAIT_POLICY, "PASSIVE")


@cache
def limit_torch_threads(threads: int) -> None:
    """Tell PyTorch, once per process and before its first work; it does not always heed the environment."""
    import torch  # seconds, which a server that is just starting does not have

    torch.set_num_threads(threads)


def end_with_parent(parent: int) -> None:
    """Leave at once when the process `parent`, which must be the direct parent, is gone, however it went.

    Polling rather than PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and only on Linux.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(0)  # nothing to save: results are written whole or not at all

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
