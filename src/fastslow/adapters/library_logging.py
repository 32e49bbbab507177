"""Keeps the libraries' progress bars and notices out of the command's output."""

import logging
import os
import sys
import warnings


def quiet_libraries() -> None:
    """Show only errors of transformers and of the Hub's client, and no warnings about libraries'
    use of each other."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # It warns of every retry.
    if not sys.stderr.isatty():
        of_transformers.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
