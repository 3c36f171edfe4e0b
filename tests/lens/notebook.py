"""Executes examples/demo.ipynb as a user would, in a copy of examples/, and looks at what came out.

    python tests/lens/notebook.py [EXECUTED.ipynb]
"""

import pathlib
import shutil
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]

with tempfile.TemporaryDirectory() as directory:
    here = pathlib.Path(shutil.copytree(ROOT / "examples", pathlib.Path(directory) / "examples"))
    notebook = nbformat.read(here / "demo.ipynb", as_version=4)
    try:
        # A cell that fails raises here, with its traceback.
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    finally:
        if sys.argv[1:]:
            nbformat.write(notebook, sys.argv[1])
    assert (here / "runs/demo/report.html").is_file(), "the run is not where the notebook says"

outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
pictures = [output for output in outputs if "image/png" in output.get("data", {})]
assert len(pictures) == 3, f"{len(pictures)} pictures: expected the curves, the spectrum and the patterns"
told = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
assert "largest difference of the logits" in told, told
print(told.strip())
print("the notebook: ok")
