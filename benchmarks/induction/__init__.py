"""Instruction induction: which of many instructions does a model follow best? By `prompts`."""
