"""Several processes that train one run together, and a base divided over them."""
