"""Tiny random models of families that cannot be scored or sampled from in the quickest way."""

import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
         "mamba_chunk_size": 16}  # fmt: skip
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
         "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
         "head_dim": 8}  # fmt: skip
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16,
           "shared_expert_intermediate_size": 16}  # fmt: skip
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
             "long_factor": [3.0] * 4, "original_max_position_embeddings": 32}  # fmt: skip
CONFIGS = {
    "lfm2": tiny.SIZES
    | {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "qwen3_next": tiny.SIZES | DELTA | EXPERTS,
    "qwen3_5_text": tiny.SIZES | DELTA,
    "jamba": tiny.SIZES
    | {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "num_experts": 2,
       "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "bamba": tiny.SIZES | STATE | {"attn_layer_indices": [1]},
    "falcon_h1": tiny.SIZES | STATE | {"head_dim": 8, "mamba_d_ssm": 64},
    "rwkv": {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2,
             "attention_hidden_size": 32, "intermediate_size": 64, "context_length": 256,
             "bos_token_id": 1, "eos_token_id": 2},
    "mamba": {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
              "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "minimax": tiny.SIZES
    | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "block_size": 16,
       "num_local_experts": 2, "num_experts_per_tok": 1},
    "llama4_text": tiny.SIZES
    | {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 64},
    "phi3": tiny.SIZES | {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 32},
    "mixtral": tiny.SIZES | {"num_local_experts": 2, "num_experts_per_tok": 1},
    "llama": tiny.SIZES,
}  # fmt: skip


def model(family: str, **changes):
    """One whose answers depend on all of a prompt."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(CONFIGS[family] | changes))
    built = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in built.parameters():
        if parameter.dim() > 1 and parameter.std() < 0.1:
            parameter.normal_(0, 0.25)
    return built
