"""Trackers: what a run measures, to TensorBoard, Weights & Biases and the like."""
