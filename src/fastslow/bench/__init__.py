"""Benchmarks: methods compared on the same data, budget and tuning grid."""
