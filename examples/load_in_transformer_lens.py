"""Loads what `grokscope train` wrote into TransformerLens: a TransformerBridge of 4.x, or a HookedTransformer of 3.x.

    python examples/load_in_transformer_lens.py runs/default
"""

import json
import pathlib
import sys

from safetensors.torch import load_file


def load_bridge(directory):
    """TransformerLens 4: everything is loaded, and nothing is left over."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    directory = pathlib.Path(directory)
    config = TransformerBridgeConfig.from_dict(json.loads((directory / "config.json").read_text()))
    bridge = TransformerBridge.boot_native(config)
    bridge.load_state_dict(convert_tl_checkpoint(load_file(directory / "model.safetensors"), config), strict=True)
    return bridge.eval()


def load_hooked(directory):
    """TransformerLens 3: its config refuses keys that it does not know, and its mask and IGNORE are buffers of its own."""
    import inspect

    from transformer_lens import HookedTransformer, HookedTransformerConfig

    directory = pathlib.Path(directory)
    config = json.loads((directory / "config.json").read_text())
    known = inspect.signature(HookedTransformerConfig).parameters
    model = HookedTransformer(HookedTransformerConfig(**{k: v for k, v in config.items() if k in known}))
    missing, unknown = model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    assert not unknown and all(name.endswith(("mask", "IGNORE")) for name in missing), (missing, unknown)
    return model.eval()


def load(directory):
    import importlib.metadata

    modern = int(importlib.metadata.version("transformer-lens").split(".")[0]) >= 4
    return load_bridge(directory) if modern else load_hooked(directory)


if __name__ == "__main__":
    import torch

    model = load(sys.argv[1])
    p = model.cfg.d_vocab - 1
    logits, cache = model.run_with_cache(torch.tensor([[3, 5, p]]))
    print(f"3 op 5 is {int(logits[0, -1, :p].argmax())} mod {p}; cached: {', '.join(cache)}")
