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


def save_tiny(kind: str, folder: Path) -> Path:
    """A folder with a tiny model and a word tokenizer, as a user would have it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if kind == "bert":
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    tiny_model(kind).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return folder
