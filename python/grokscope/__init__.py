"""grokscope from Python: train a small transformer on modular arithmetic until it groks, and look at what came out.

>>> import grokscope
>>> run = grokscope.train(preset="demo", seed=1)
>>> run.metrics()["test_loss"]          # NumPy, a value for each evaluation
>>> run.weights()["embed.W_E"]          # NumPy, under TransformerLens's names
>>> run.findings()["key_frequencies"]

The module runs the program that is installed with it, in a process of its own, and reads the files that it leaves. Numbers are those of the command line, to the byte.
"""

from importlib.metadata import version

from ._program import Diverged, Error, Stopped, program
from ._run import Run, train

__version__ = version("grokscope")
__all__ = ["Diverged", "Error", "Run", "Stopped", "program", "train"]
