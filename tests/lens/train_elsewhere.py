"""Trains the network of TransformerLens's Grokking_Demo a little, there, and saves its state dict as safetensors.

    python train_elsewhere.py STATE.safetensors P STEPS

Also STATE.pth, the same pickled, and STATE.accuracy: the accuracy on all pairs, to be found again by `grokscope analyze`.
"""

import pathlib
import sys
import warnings

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

warnings.simplefilter("ignore", DeprecationWarning)


def main(state, p, steps):
    config = HookedTransformerConfig(
        n_layers=1, n_heads=2, d_model=32, d_head=16, d_mlp=64, act_fn="relu", normalization_type=None,
        d_vocab=p + 1, d_vocab_out=p, n_ctx=3, init_weights=True, device="cpu", seed=999,
    )
    model = HookedTransformer(config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "b_" not in name
    x, y = torch.arange(p).repeat_interleave(p), torch.arange(p).repeat(p)
    data, labels = torch.stack([x, y, torch.full_like(x, p)], dim=1), (x + y) % p
    torch.manual_seed(598)
    train = torch.randperm(p * p)[: int(p * p * 0.8)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1.0, betas=(0.9, 0.98))
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(data[train])[:, -1], labels[train])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        accuracy = (model(data)[:, -1].argmax(dim=1) == labels).double().mean().item()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, state)
    torch.save({"model": model.state_dict()}, pathlib.Path(state).with_suffix(".pth"))
    pathlib.Path(state).with_suffix(".accuracy").write_text(repr(accuracy))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
