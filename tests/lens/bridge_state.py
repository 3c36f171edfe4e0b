"""The state dict of a TransformerBridge of TransformerLens 4, as PyTorch names it: bridge_state.py DIRECTORY STATE.safetensors"""

import pathlib
import sys

from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
from load_in_transformer_lens import load_bridge

directory, state = sys.argv[1:]
save_file({name: tensor.contiguous() for name, tensor in load_bridge(directory).state_dict().items()}, state)
