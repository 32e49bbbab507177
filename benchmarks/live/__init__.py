"""Simulated people vote on a world's answers while the model learns from their votes."""
