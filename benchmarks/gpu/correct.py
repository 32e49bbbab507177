"""Scores of trees on the device against single responses in float64 on the CPU."""

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.gpu.setting import Setting
from fastslow.adapters import Modules
from fastslow.scoring import Scorer, Tree, tree_batch

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "gpt_neox")
SIZES = {
    "vocab_size": 3200,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOWS = {"gemma2": 512, "gemma3_text": 512}
"""Sliding window, in tokens, of every other layer of these; longer than any text here."""
UNPREPARED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which prepares for every new length; here that would take minutes."""
SCALE = 2.0
"""Factor on random weights, so that scores of answers differ."""


def measure(setting: Setting) -> dict[str, Any]:
    """By architecture: the largest differences in nats, and of gradients relative to their norm."""
    torch.backends.cuda.matmul.allow_tf32 = False
    chosen = ARCHITECTURES if setting.device.type == "cuda" else ARCHITECTURES[:1]
    with sdpa_kernel(UNPREPARED):
        return {name: _compare(name, setting.device) for name in chosen}


def _compare(architecture: str, device: torch.device) -> dict[str, float]:
    trees = _trees()
    exact, expected_slopes = _alone(_model(architecture, torch.float64, torch.device("cpu")), trees)
    differences: dict[str, float] = {"typical score": exact.abs().mean().item()}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for kind, way in (("trees", _together), ("alone", _alone)):
            scores, slopes = way(_model(architecture, dtype, device), trees)
            differences[f"{name} {kind}"] = (scores.double().cpu() - exact).abs().max().item()
            off = (slopes.double().cpu() - expected_slopes).norm() / expected_slopes.norm()
            differences[f"{name} {kind} gradients"] = off.item()
            if name == "float32" and kind == "trees":
                on_cpu, _ = way(_model(architecture, dtype, torch.device("cpu")), trees)
                differences["float32 trees from the processor's"] = (
                    (scores.cpu() - on_cpu).abs().max().item()
                )
    return differences


def _model(architecture: str, dtype: torch.dtype, device: torch.device) -> Modules:
    """A base with a non-zero module, the same weights for every precision."""
    torch.manual_seed(0)
    sizes = SIZES | {"sliding_window": WINDOWS.get(architecture)}
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes)).eval()
    for parameter in base.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(SCALE)
    base = base.to(device, dtype).requires_grad_(False)
    modules = Modules.attach(base, ("fast",), rank=8, alpha=16)
    draw = torch.Generator().manual_seed(1)
    for key, parameter in modules.parameters("fast").items():
        if "lora_B" in key:
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=draw))
        parameter.data = parameter.data.to(dtype if dtype == torch.float64 else torch.float32)
    return modules


def _together(modules: Modules, trees: list[Tree]) -> tuple[torch.Tensor, torch.Tensor]:
    model = modules.causal_lm
    with modules.using("fast"), _precision(model):
        scores = Scorer(model).score(tree_batch(trees, pad_id=0).to(model.device))
    return scores.detach(), _slopes(scores, modules)


def _alone(modules: Modules, trees: list[Tree]) -> tuple[torch.Tensor, torch.Tensor]:
    model = modules.causal_lm
    scorer = Scorer(model)
    with modules.using("fast"), _precision(model):
        scores = torch.stack(
            [scorer.score_alone(t.prompt, r, device=model.device) for t in trees
             for r in t.responses]
        )  # fmt: skip
    return scores.detach(), _slopes(scores, modules)


def _slopes(scores: torch.Tensor, modules: Modules) -> torch.Tensor:
    """Gradient of a weighted sum of the scores with respect to all of the module's parameters."""
    weights = torch.linspace(-1, 1, len(scores), device=scores.device, dtype=scores.dtype)
    slopes = torch.autograd.grad((scores * weights).sum(), [*modules.parameters("fast").values()])
    return torch.cat([slope.flatten() for slope in slopes])


def _precision(model: Any) -> torch.autocast:
    """As in training."""
    return torch.autocast(
        model.device.type, dtype=torch.bfloat16, enabled=model.dtype == torch.bfloat16
    )


def _trees() -> list[Tree]:
    """About 3,000 tokens, so that the row takes more than one attention call."""
    draw = torch.Generator().manual_seed(2)

    def ids(least: int, most: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most, (1,), generator=draw))
        return tuple(torch.randint(3, SIZES["vocab_size"], (length,), generator=draw).tolist())

    return [Tree(ids(20, 120), (ids(1, 90), ids(10, 90), ids(10, 90))) for _ in range(14)]
