"""Opens the page of a run in headless Chromium and reads it as a person would.

Usage: python page.py RUN_DIR [SCREENSHOT_DIR]
       python page.py --open-only RUN_DIR ..        only that the pages open, without a complaint, in all four layouts

RUN_DIR holds report.html, findings.json and checkpoints/step-NNNNNN/model.safetensors. At 1280 and at 390 pixels, light
and dark: no console messages, nothing fetched, nothing wider than the window, no two texts of a figure over each other,
names on all axes. Then the slider, the choice of a neuron and the maps are used, and what they show is compared with
findings.json and with activations computed here from the weights.
"""

import base64
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]

TEXTS_OVER_EACH_OTHER = """
const found = [];
for (const svg of document.querySelectorAll('svg.figure')) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
  texts.forEach(([a, box], i) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      found.push(`${svg.ariaLabel}: '${a}' leaves its figure`);
    for (const [b, other] of texts.slice(i + 1)) {
      const width = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const height = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      // Boxes of letters are taller than the letters by a fifth.
      const room = 0.25 * Math.min(box.height, other.height);
      if (width > 1 && height > room) found.push(`${svg.ariaLabel}: '${a}' and '${b}'`);
    }
  });
}
return found;
"""

FIGURES_WITHOUT_AXIS_NAMES = """
return [...document.querySelectorAll('svg.figure')].filter((svg) => {
  const names = [...svg.querySelectorAll('.axis-name')].map((name) => name.textContent.trim());
  return names.length === 0 || names.some((name) => name === '');
}).map((svg) => svg.ariaLabel);
"""


def require(condition, message):
    if not condition:
        sys.exit(f"page: {message}")


def look(driver, width, dark):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def check_layout(driver, url, width, dark):
    look(driver, width, dark)
    driver.get(url)
    where = f"at {width} px, {'dark' if dark else 'light'}"
    messages = driver.get_log("browser")
    require(messages == [], f"{where} the console says {messages}")
    fetched = driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith('data:'))")
    require(fetched == [], f"{where} the page fetches {fetched}")
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    require(wide <= width, f"{where} the page is {wide} px wide")
    over = driver.execute_script(TEXTS_OVER_EACH_OTHER)
    require(over == [], f"{where} texts lie over each other: {over[:8]}")
    nameless = driver.execute_script(FIGURES_WITHOUT_AXIS_NAMES)
    require(nameless == [], f"{where} axes without names: {nameless}")
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in background[4:-1].split(",")) > 384
    require(light != dark, f"{where} the background is {background}")


def post(weights, n):
    """Activations of all neurons over all pairs: [x, y, neuron]. Plainly, over three positions with a causal mask."""
    w = {name.split(".")[-1]: tensor.astype(np.float64) for name, tensor in weights.items()}
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    tokens = np.stack([x, y, np.full_like(x, n)], -1).reshape(-1, 3)
    resid = w["W_E"][tokens] + w["W_pos"]
    q, k, v = (np.einsum("bpd,hde->bhpe", resid, w[name]) for name in ("W_Q", "W_K", "W_V"))
    scores = np.einsum("bhe,bhpe->bhp", q[:, :, 2], k) / np.sqrt(q.shape[-1])
    pattern = np.exp(scores - scores.max(-1, keepdims=True))
    pattern /= pattern.sum(-1, keepdims=True)
    mid = resid[:, 2] + np.einsum("bhp,bhpe,hed->bd", pattern, v, w["W_O"])
    return np.maximum(mid @ w["W_in"] + w["b_in"], 0).reshape(n, n, -1)


def basis(n):
    """The Fourier basis of Z_n, n odd: [row, t]."""
    k, t = np.arange(1, n // 2 + 1)[:, None], np.arange(n)
    waves = np.stack([np.cos(2 * np.pi * k * t / n), np.sin(2 * np.pi * k * t / n)], 1).reshape(-1, n)
    return np.vstack([np.full(n, n**-0.5), waves * (2 / n) ** 0.5])


def circle(table, k):
    """Rows of a table in the plane of its cosine and sine of frequency k, about their mean: [row, 2]."""
    first, second = basis(len(table))[2 * k - 1:2 * k + 1] @ table
    first /= np.linalg.norm(first)
    second -= second @ first * first
    second /= np.linalg.norm(second)
    return (table - table.mean(0)) @ np.stack([first, second], 1)


def check_pictures(driver, findings, weights, n):
    """The attention maps and the unembedding's circles that stand in the page."""
    w = {name.split(".")[-1]: tensor.astype(np.float64) for name, tensor in weights.items()}
    resid = w["W_E"][:n] + w["W_pos"][0], w["W_E"][:n] + w["W_pos"][1], (w["W_E"][n] + w["W_pos"][2])[None]
    for head in range(findings["model"]["n_heads"]):
        q = resid[2][0] @ w["W_Q"][head]
        x, y, equals = (r @ w["W_K"][head] @ q / np.sqrt(len(q)) for r in resid)
        scores = np.stack(np.broadcast_arrays(x[:, None], y[None, :], equals[0]), -1)
        weight = np.exp(scores[..., 0]) / np.exp(scores).sum(-1)
        for row, column in ((0, n - 1), (n // 3, 2), (n - 1, n // 2)):
            tip = hover(driver, f"map-attention-{head}", row, column, n)
            step = (weight.max() - weight.min()) / 255
            close(float(tip.split()[-1]), weight[row, column], 1.01 * step + 0.006 * weight[row, column], f"head {head} at {row}, {column}")
    for k in findings["key_frequencies"]:
        script = "const g = document.getElementById('circle-unembed-%d'), { reach, x, y, size } = g.dataset; return [...g.children].map((c) => [(c.getAttribute('cx') - x) / size * reach, (y - c.getAttribute('cy')) / size * reach])"
        expected = circle(w["W_U"][:, :n].T, k)
        # Places and the figure's size are written to a tenth of a unit of 108.
        close(driver.execute_script(script % k), expected, 1e-3 * np.abs(expected).max(), f"W_U's circle {k}")


def check_curves(driver, findings):
    """The loss curve's points say what the findings say, train and test each on its own line."""
    tips = driver.execute_script("return [...document.querySelectorAll('#figure-loss .hit title')].map((t) => t.textContent)")
    rows = findings["progress"]["checkpoints"]
    expected = [(split, row["step"], row["scores"][split]["loss"]) for split in ("train", "test") for row in rows]
    require(len(tips) == len(expected), f"the loss curves have {len(tips)} points, not {len(expected)}")
    for tip, (split, step, loss) in zip(tips, expected):
        require(tip.startswith(f"{split}: step (updates) "), f"a point of the {split} curve says {tip}")
        close(float(tip.split()[-1]), loss, 0.06 * loss, f"{split} loss at step {step}")


def check_tables(driver, findings):
    """Certificate and losses as the findings have them."""
    text = lambda selector: driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((row) => row.innerText)", selector)
    rows = text("#certificate tbody tr")
    claims = findings["certificate"]["claims"]
    require(len(rows) == len(claims), f"the certificate has {len(rows)} rows")
    for row, claim in zip(rows, claims):
        require(claim["claim"] in row and ("holds" if claim["passed"] else "fails") in row, f"{claim} is shown as {row}")
    losses = {row.split("\t")[0]: row.split("\t")[1:] for row in text("#logits .scroll:last-of-type tbody tr")}
    of = findings["restricted"]
    expected = {"the network": findings["scores"], "restricted (keys only), at the logits": of["logits"]["all"]["restricted"],
                "excluded (keys taken away), at the logits": of["logits"]["all"]["excluded"], "restricted (keys only), at the neurons": of["neurons"]["all"]["restricted"],
                "excluded (keys taken away), at the neurons": of["neurons"]["all"]["excluded"]}
    for name, scores in expected.items():
        for shown, split in zip(losses[name], ("train", "test", "all")):
            close(float(shown), scores[split]["loss"], 0.06 * scores[split]["loss"], f"{name}, {split}")


def use(driver, slider, neuron):
    driver.execute_script("""
        for (const [id, value] of [['step-slider', arguments[0]], ['neuron', arguments[1]]]) {
          document.getElementById(id).value = value;
          document.getElementById(id).dispatchEvent(new Event('input'));
        }""", slider, neuron)


def drawn_neuron(driver):
    return np.array(driver.execute_script("return [...known.get(document.getElementById('map-explorer-activation'))]"))


def close(shown, expected, tolerance, what):
    error = np.abs(np.asarray(shown) - np.asarray(expected)).max()
    require(error <= tolerance, f"{what}: shown and computed differ by {error}, more than {tolerance}")


def hover(driver, map_id, row, column, n):
    """The tip's text with the pointer over the middle of a map's cell."""
    script = """
        const image = document.getElementById(arguments[0]);
        image.scrollIntoView({block: 'center'});
        const box = image.getBoundingClientRect();
        const at = {clientX: box.left + box.width * (arguments[2] + 0.5) / arguments[3],
                    clientY: box.top + box.height * (arguments[1] + 0.5) / arguments[3], bubbles: true};
        const under = document.elementFromPoint(at.clientX, at.clientY);
        under.dispatchEvent(new PointerEvent('pointermove', at));
        return under === image;"""
    require(driver.execute_script(script, map_id, row, column, n), f"something lies over {map_id}")
    # A picture that was never read has to be decoded first.
    driver.execute_async_script("setTimeout(arguments[0], 300)")
    driver.execute_script(script, map_id, row, column, n)
    require(driver.execute_script("return !document.getElementById('tip').hidden"), f"no tip over {map_id}")
    return driver.execute_script("return document.getElementById('tip').textContent")


def check_explorer(driver, url, run, findings):
    look(driver, 1280, False)
    driver.get(url)
    n, d_mlp = findings["model"]["order"], findings["model"]["d_mlp"]
    checkpoints = findings["progress"]["checkpoints"]
    frames = driver.execute_script("return frames.map((frame) => frame.step)")
    tracked = driver.execute_script("return tracked")
    require(frames[0] == checkpoints[0]["step"] and frames[-1] == checkpoints[-1]["step"], f"the slider has steps {frames}")
    last = len(frames) - 1
    output = lambda: driver.execute_script("return document.getElementById('step-output').textContent")
    require(output().startswith(f"step {frames[-1]:,}"), f"at first the slider says {output()}")
    places = "return [...document.querySelectorAll('#figure-%s .bars')].map((g) => [g.dataset.scale, [...g.children].map((bar) => bar.getAttribute('height'))])"
    circles = """
        const group = document.getElementById('circle-explorer-embed-%d'), { reach, x, y, size } = group.dataset;
        return [...document.querySelectorAll('#circle-explorer-embed-%d circle')].map((c) =>
            [(c.getAttribute('cx') - x) / size * reach, (y - c.getAttribute('cy')) / size * reach]);"""
    key = findings["key_frequencies"][0]
    seen = {}
    for place in (last, 0, last // 2):
        step = frames[place]
        row = next(row for row in checkpoints if row["step"] == step)
        use(driver, place, tracked[0])
        require(output().startswith(f"step {step:,}"), f"the slider at {place} says {output()}")
        shown = {part.split(" loss ")[0].strip(): float(part.split(" loss ")[1]) for part in output().split(",") if " loss " in part}
        for split in ("train", "test"):
            close(shown[split], row["scores"][split]["loss"], 0.06 * row["scores"][split]["loss"], f"{split} loss at step {step}")
        for name, figure in (("W_E", "explorer-w-e"), ("W_L", "explorer-w-l")):
            components = np.array(row[name]["components"])
            for series, (scale, heights) in enumerate(driver.execute_script(places % figure)):
                expected = components[1 + series::2]
                close(np.array(heights, float) / float(scale), expected, 1e-4 * components.max(), f"{name}'s bars at step {step}")
        weights = load_file(run / "checkpoints" / f"step-{step:06}" / "model.safetensors")
        expected = post(weights, n)[:, :, tracked[0]].ravel()
        close(drawn_neuron(driver), expected, 2e-3 * max(expected.max(), 1e-3), f"neuron {tracked[0]} at step {step}")
        # The map of its coefficients: F X F^T of the centred activation, symmetric only by chance.
        plane = basis(n) @ (expected - expected.mean()).reshape(n, n) @ basis(n).T
        drawn = driver.execute_script("return [...known.get(document.getElementById('map-explorer-spectrum'))]")
        close(drawn, plane.ravel(), 2e-3 * np.abs(plane).max() + 1e-9, f"coefficients of neuron {tracked[0]} at step {step}")
        # Tokens in the plane of their cosine and sine: on the page in units of reach, y upwards.
        shown = np.array(driver.execute_script(circles % (key, key)), float)
        close(shown, circle(weights["embed.W_E"][:n].astype(float), key), 2e-3, f"W_E's circle {key} at step {step}")
        seen[place] = shown.tolist()
    require(seen[0] != seen[last], "the embedding's circle does not move with the slider")
    # A neuron that is not followed shows the last step.
    other = next(i for i in reversed(range(d_mlp)) if i not in tracked)
    use(driver, 0, other)
    expected = post(load_file(run / "checkpoints" / f"step-{frames[-1]:06}" / "model.safetensors"), n)
    close(drawn_neuron(driver), expected[:, :, other].ravel(), 2e-3 * expected[:, :, other].max(), f"neuron {other}")
    # Hovering over the drawn map and over a picture of the page.
    use(driver, last, tracked[0])
    row, column = np.unravel_index(expected[:, :, tracked[0]].argmax(), (n, n))
    for map_id in ("map-explorer-activation", f"map-neuron-{tracked[0]}"):
        tip = hover(driver, map_id, int(row), int(column), n)
        require(tip.startswith(f"x = {row}, y = {column}: activation "), f"over {map_id} the tip says {tip}")
        highest = expected[:, :, tracked[0]].max()
        close(float(tip.split()[-1]), highest, 0.01 * highest, f"the tip over {map_id}")
    check_pictures(driver, findings, load_file(run / "checkpoints" / f"step-{frames[-1]:06}" / "model.safetensors"), n)
    check_curves(driver, findings)
    check_tables(driver, findings)
    require(driver.get_log("browser") == [], "the console has messages after use")


def browser():
    options = Options()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def screenshot(driver, path, width):
    height = driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16000), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))


def check_layouts(driver, run, screenshots):
    page = run / "report.html"
    size = page.stat().st_size
    require(size < 5_000_000, f"the page has {size} bytes: over 5 MB")
    for width in (1280, 390):
        for dark in (False, True):
            check_layout(driver, page.resolve().as_uri(), width, dark)
            if screenshots:
                screenshot(driver, screenshots / f"page-{width}-{'dark' if dark else 'light'}.png", width)
    return size


def main(arguments):
    driver = browser()
    try:
        if arguments[0] == "--open-only":
            for run in arguments[1:]:
                check_layouts(driver, pathlib.Path(run), None)
            print(f"page: {len(arguments) - 1} pages open in four layouts")
            return
        run = pathlib.Path(arguments[0])
        screenshots = pathlib.Path(arguments[1]) if len(arguments) > 1 else None
        size = check_layouts(driver, run, screenshots)
        check_explorer(driver, (run / "report.html").resolve().as_uri(), run, json.loads((run / "findings.json").read_text()))
    finally:
        driver.quit()
    print(f"page: {size} bytes, four layouts, slider, neurons, maps, curves and tables as they should be")


if __name__ == "__main__":
    main(sys.argv[1:])
