"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this worker process at once when its parent is gone.

    Of a process pool: a parent that is killed cannot stop its workers, and these would compute and
    keep their memory unnoticed. What they write is complete or absent at any time.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only worker processes have a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
