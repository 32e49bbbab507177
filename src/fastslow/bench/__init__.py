"""Comparisons of methods on the same data, budget and tuning grid."""
