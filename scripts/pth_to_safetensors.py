"""Turns a pickled PyTorch state dict into safetensors, which grokscope import reads. Needs torch and safetensors.

    python scripts/pth_to_safetensors.py full_run_data.pth model.safetensors [KEY ..]

KEYs lead to a state dict inside of what was pickled: state_dicts 400, say. Nothing but tensors and plain containers is unpickled.
"""

import sys

import torch
from safetensors.torch import save_file

source, target, *keys = sys.argv[1:]
state = torch.load(source, map_location="cpu", weights_only=True)
for key in keys:
    state = state[int(key) if key.lstrip("-").isdigit() and not (isinstance(state, dict) and key in state) else key]
save_file({name: tensor.float().contiguous() for name, tensor in state.items()}, target)
