"""Transformers of a few thousand random weights, for tests: each kind is built as its library builds it."""

from pathlib import Path
from typing import Any

import torch
import transformers

WORDS = [f"w{i}" for i in range(56)]
VOCABULARY = 64

_COMMON = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "pad_token_id": 0}
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def tiny_config(kind: str) -> Any:
    """The configuration of a tiny model of a kind (`bert`, `gpt2`, `llama`, ...)."""
    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40},
        "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40},
        "opt": {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 40,
            "word_embed_proj_dim": 32,
        },
    }.get(kind, _SIZES)
    if kind in ("llama", "mistral", "qwen2"):
        sizes = sizes | {"num_key_value_heads": 2}
    return transformers.AutoConfig.for_model(kind, **(_COMMON | sizes))


def tiny_model(kind: str) -> Any:
    """A tiny model with seeded random weights, eager attention."""
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(tiny_config(kind), attn_implementation="eager").float().eval()


def tiny_bert2bert() -> Any:
    """Two tiny BERTs as one encoder-decoder model, whose decoder attends to the encoder."""
    encoder = tiny_model("bert")
    config = transformers.BertConfig(
        **(tiny_config("bert").to_dict() | {"is_decoder": True, "add_cross_attention": True})
    )
    decoder = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder).float().eval()
    model.config.decoder_start_token_id, model.config.pad_token_id = 2, 0
    return model


MOE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 4},
    "qwen2_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "deepseek_v2": {
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": None,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
    },
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Real MoE models' classes, and what makes a tiny one of each: experts, top-k."""


def tiny_moe(kind: str) -> Any:
    """A tiny model of a real MoE model's class, with seeded random weights, eager attention."""
    torch.manual_seed(0)
    sizes = _COMMON | _SIZES | {"num_key_value_heads": 2, "eos_token_id": 1, "bos_token_id": 2} | MOE[kind]
    config = transformers.AutoConfig.for_model(kind, **sizes)
    return transformers.AutoModel.from_config(config, attn_implementation="eager").float().eval()


def save_tiny(kind: str, folder: Path) -> Path:
    """A folder with a tiny model and a word tokenizer, as a user would have it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if kind in ("bert", "bert2bert"):
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    model = tiny_bert2bert() if kind == "bert2bert" else tiny_moe(kind) if kind in MOE else tiny_model(kind)
    model.save_pretrained(folder)
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder
