"""Several processes that train one run together, optionally with a sharded base."""
