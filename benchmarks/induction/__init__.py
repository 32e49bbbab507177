"""Instruction induction with `prompts`: which of many instructions does a model follow best?"""
