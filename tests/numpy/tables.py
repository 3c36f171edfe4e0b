"""Reads a sweep's table as polars does, and holds Parquet against CSV: names, types, every value.

Usage: python tables.py SWEEP_DIR
"""

import pathlib
import sys

import polars

place = pathlib.Path(sys.argv[1])
parquet = polars.read_parquet(place / "sweep.parquet")
csv = polars.read_csv(place / "sweep.csv", schema=parquet.schema)
# An empty field of a CSV is no text or an empty one: a network without key frequencies has the empty set.
texts = [name for name, kind in parquet.schema.items() if kind == polars.String]
plain = parquet.with_columns(polars.col(texts).replace("", None))
if not plain.equals(csv.with_columns(polars.col(texts).replace("", None)), null_equal=True):
    sys.exit(f"tables: they differ:\n{parquet}\n{csv}")
kinds = {"run": polars.String, "status": polars.String, "seed": polars.Int64, "lr": polars.Float64, "grokked": polars.Boolean, "test_loss": polars.Float64}
for name, kind in kinds.items():
    if parquet.schema[name] != kind:
        sys.exit(f"tables: {name} is {parquet.schema[name]}, expected {kind}")
if parquet["run"].n_unique() != len(parquet):
    sys.exit("tables: a run stands twice")
done = parquet.filter(polars.col("status") == "done")
if done["test_loss"].null_count() or parquet.filter(polars.col("status") != "done")["test_loss"].count():
    sys.exit("tables: a run that is done has a test loss, another has none")
print(f"tables: {len(parquet)} rows, {len(parquet.columns)} columns")
