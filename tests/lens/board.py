"""What --tensorboard writes, read by TensorBoard's own reader.

    python board.py RUN      a run that was resumed once, so that there are two files
"""

import io
import json
import pathlib
import sys

import numpy
from PIL import Image
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
files = sorted((run / "tensorboard").iterdir())
assert len(files) == 2, files
# 0: all of them.
events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
events.Reload()

rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
for tag, name in [
    ("loss/train", "train_loss"),
    ("loss/test", "test_loss"),
    ("accuracy/train", "train_accuracy"),
    ("accuracy/test", "test_accuracy"),
    ("weight_norm", "weight_norm"),
]:
    read = [(event.step, event.value) for event in events.Scalars(tag)]
    assert read == [(row["step"], float(numpy.float32(row[name]))) for row in rows], tag
assert events.Scalars("ms_per_step")

p = json.loads((run / "config.json").read_text())["grokscope"]["p"]
histograms = events.Histograms("spectrum/W_E")
checkpoints = sorted(int(path.name[5:]) for path in (run / "checkpoints").iterdir())
assert [event.step for event in histograms] == checkpoints
for event in histograms:
    weights = load_file(run / "checkpoints" / f"step-{event.step:06}" / "model.safetensors")["embed.W_E"][:p]
    waves = numpy.fft.rfft(weights.astype(float), axis=0)
    # cos and sin of length 1 are sqrt(2 / p) of a wave of height 1.
    norms = numpy.sqrt(2 / p) * numpy.linalg.norm(waves, axis=1)
    norms[0] = 0
    value = event.histogram_value
    assert numpy.allclose(value.bucket, norms, rtol=1e-6, atol=1e-9)
    assert numpy.allclose(value.bucket_limit, numpy.arange(len(norms)) + 0.5)

tags = [tag for tag in events.Tags()["images"] if tag.startswith("figures/")]
# A figure of a key that was one at the earlier end, and is none any more, stays there.
newest = [tag for tag in tags if events.Images(tag)[-1].step == rows[-1]["step"]]
assert len(newest) >= 10 and "figures/spectrum-w-e" in newest, tags
for tag in tags:
    last = events.Images(tag)[-1]
    picture = Image.open(io.BytesIO(last.encoded_image_string)).convert("RGB")
    assert picture.size == (last.width, last.height)
    # Something is drawn, on white.
    colours = picture.getcolors(1 << 24)
    assert len(colours) > 3 and max(colours)[1] == (255, 255, 255), (tag, colours[:5])
print(f"{len(rows)} rows, {len(histograms)} spectra and {len(tags)} figures in TensorBoard's reader")
