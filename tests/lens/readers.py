"""What a run leaves, read as docs/exchange.md says: metrics in pandas and polars, the card by the Hugging Face Hub's own reader.

    python readers.py RUN
"""

import json
import pathlib
import sys

import pandas
import polars
from huggingface_hub import ModelCard

run = pathlib.Path(sys.argv[1])
rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
in_pandas = pandas.read_json(run / "metrics.jsonl", lines=True, precise_float=True)
in_polars = polars.read_ndjson(run / "metrics.jsonl")
assert list(in_pandas.columns) == in_polars.columns == list(rows[0])
for i, row in enumerate(rows):
    for name, value in row.items():
        assert in_polars[name][i] == value, (name, i)
        assert abs(in_pandas[name][i] - value) <= 1e-15 * abs(value), (name, i)
joined = in_pandas.merge(pandas.read_json(run / "timing.jsonl", lines=True), on="step")
assert len(joined) == len(rows) and (joined.seconds.diff().dropna() >= 0).all()

summary = json.loads((run / "summary.json").read_text())
card = ModelCard.load(run / "README.md")
assert card.data.library_name == "transformer-lens" and "grokking" in card.data.tags
results = {result.metric_type: result.metric_value for result in card.data.eval_results}
assert results == {"accuracy": summary["test_accuracy"], "loss": summary["test_loss"]}, results
assert f"for {summary['steps']} steps" in card.text
print(f"{run.name}: {len(rows)} rows in pandas and polars, a card with {len(results)} results")
