"""Keeps the libraries' progress bars and notices out of the command's output."""

import os
import sys
import warnings


def quiet_libraries() -> None:
    """Show only errors of transformers, and no warnings about libraries' use of each other."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
