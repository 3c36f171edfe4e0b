"use strict";
// Redraws the figures of the explorer: the slider chooses a checkpoint, the number a neuron. Everything is computed from
// the arrays in #data; the page works without this script, only that these figures then stay at the last step.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

/** Bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** 16-bit integers times a scale, as packed by the program. */
function unpack(packed) {
  const view = new DataView(bytes(packed.values).buffer);
  return Float64Array.from({ length: view.byteLength / 2 }, (_, i) => view.getInt16(2 * i, true) * packed.scale);
}

const { n, heads, dModel, dMlp, keys, tracked } = data;
const slots = 2 * n + 1;
const palettes = { sequential: bytes(data.palettes.sequential), diverging: bytes(data.palettes.diverging) };
const frames = data.frames.map((frame) => ({
  ...frame,
  wE: unpack(frame.wE), wL: unpack(frame.wL), scores: unpack(frame.scores),
  tables: unpack(frame.tables), biases: unpack(frame.biases), embed: unpack(frame.embed),
}));
const explorer = { written: unpack(data.written), wIn: unpack(data.wIn), bias: unpack(data.bias), scores: unpack(data.scores) };

/** A number for people: three digits. */
function short(x) {
  const size = Math.abs(x);
  if (size === 0) return "0";
  return size >= 1e-2 && size < 1e4 ? String(Number(x.toPrecision(3))) : x.toExponential(1).replace("e+", "e");
}

/** The Fourier basis of Z_n, row by row. */
const basis = (() => {
  const rows = [new Float64Array(n).fill(1 / Math.sqrt(n))];
  for (let k = 1; 2 * k <= n; k++) {
    const scale = 2 * k === n ? 1 / Math.sqrt(n) : Math.sqrt(2 / n);
    const wave = (f) => Float64Array.from({ length: n }, (_, t) => scale * f((2 * Math.PI * ((k * t) % n)) / n));
    rows.push(wave(Math.cos));
    if (2 * k < n) rows.push(wave(Math.sin));
  }
  return rows;
})();

const componentName = (i) => (i === 0 ? "constant" : `${i % 2 ? "cos" : "sin"} ${Math.ceil(i / 2)}`);

/** F X F^T of n * n values about their mean. */
function transform2d(values) {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const half = new Float64Array(n * n);
  const whole = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let a = 0; a < n; a++) {
      const wave = basis[i][a];
      for (let b = 0; b < n; b++) half[i * n + b] += wave * (values[a * n + b] - mean);
    }
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let b = 0; b < n; b++) sum += half[i * n + b] * basis[j][b];
      whole[i * n + j] = sum;
    }
  return whole;
}

/** What each head gives to a neuron from each slot ([head, slot]), the neuron's bias, and the scores ([slot, head]). */
function tables(frame, neuron) {
  const place = tracked.indexOf(neuron);
  if (place >= 0) {
    const size = heads * slots;
    return { table: frame.tables.subarray(place * size, (place + 1) * size), bias: frame.biases[place], scores: frame.scores };
  }
  const table = new Float64Array(heads * slots);
  for (let row = 0; row < heads * slots; row++) {
    let sum = 0;
    for (let i = 0; i < dModel; i++) sum += explorer.written[row * dModel + i] * explorer.wIn[neuron * dModel + i];
    table[row] = sum;
  }
  return { table, bias: explorer.bias[neuron], scores: explorer.scores };
}

/** relu(bias + sum over heads and positions of attention times table) over all pairs. */
function activation({ table, bias, scores }) {
  const out = new Float64Array(n * n);
  for (let x = 0; x < n; x++)
    for (let y = 0; y < n; y++) {
      let pre = bias;
      const rows = [x, n + y, 2 * n];
      for (let head = 0; head < heads; head++) {
        const logits = rows.map((slot) => scores[slot * heads + head]);
        const top = Math.max(...logits);
        const weights = logits.map((logit) => Math.exp(logit - top));
        const total = weights[0] + weights[1] + weights[2];
        for (let pos = 0; pos < 3; pos++) pre += (weights[pos] / total) * table[head * slots + rows[pos]];
      }
      out[x * n + y] = Math.max(pre, 0);
    }
  return out;
}

function drawMap(id, values) {
  const image = at(`map-${id}`);
  if (!image) return;
  const diverging = image.dataset.palette === "diverging";
  let lo = values.reduce((a, b) => Math.min(a, b));
  let hi = values.reduce((a, b) => Math.max(a, b));
  if (diverging) [lo, hi] = [-Math.max(-lo, hi), Math.max(-lo, hi)];
  if (!(hi > lo)) [lo, hi] = diverging ? [-1, 1] : [lo, lo + 1];
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = n;
  const pixels = new ImageData(n, n);
  const colours = palettes[image.dataset.palette];
  values.forEach((value, i) => {
    const level = Math.round(((value - lo) / (hi - lo)) * 255);
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = colours[3 * level + c];
    pixels.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  image.setAttribute("href", canvas.toDataURL());
  [image.dataset.lo, image.dataset.hi] = [lo, hi];
  at(`map-${id}-lo`).textContent = short(lo);
  at(`map-${id}-hi`).textContent = short(hi);
  known.set(image, values);
}

function drawSpectrum(id, components) {
  document.querySelectorAll(`#figure-${id} .bars`).forEach((group) => {
    const series = Number(group.dataset.series);
    const [zero, scale] = [Number(group.dataset.zero), Number(group.dataset.scale)];
    [...group.children].forEach((bar, i) => {
      const value = components[2 * i + 1 + series];
      bar.setAttribute("y", zero - value * scale);
      bar.setAttribute("height", value * scale);
      bar.firstElementChild.textContent = `${componentName(2 * i + 1 + series)}: norm ${short(value)}`;
    });
  });
}

function drawCircles(frame) {
  keys.forEach((k, i) => {
    const group = at(`circle-explorer-embed-${k}`);
    const { reach, x, y, size } = group.dataset;
    const scale = Number(size) / Number(reach);
    [...group.children].forEach((circle, token) => {
      const place = 2 * (i * n + token);
      circle.setAttribute("cx", Number(x) + frame.embed[place] * scale);
      circle.setAttribute("cy", Number(y) - frame.embed[place + 1] * scale);
    });
  });
}

// Values of maps that were drawn here; those of the others are read off their colours.
const known = new Map();

function valueAt(image, row, column) {
  const own = known.get(image);
  if (own) return own[row * n + column];
  let levels = pictures.get(image);
  if (!levels) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = Number(image.dataset.n);
    const context = canvas.getContext("2d");
    const source = new Image();
    source.src = image.getAttribute("href");
    if (!source.complete || !source.naturalWidth) {
      source.decode().then(() => pictures.set(image, levelsOf(context, source, image)));
      return null;
    }
    levels = levelsOf(context, source, image);
    pictures.set(image, levels);
  }
  const [lo, hi] = [Number(image.dataset.lo), Number(image.dataset.hi)];
  return lo + (levels[row * Number(image.dataset.n) + column] / 255) * (hi - lo);
}

const pictures = new Map();

function levelsOf(context, source, image) {
  const size = Number(image.dataset.n);
  context.drawImage(source, 0, 0);
  const { data: pixels } = context.getImageData(0, 0, size, size);
  const colours = palettes[image.dataset.palette];
  const level = new Map();
  for (let i = 0; i < 256; i++) level.set((colours[3 * i] << 16) | (colours[3 * i + 1] << 8) | colours[3 * i + 2], i);
  return Float64Array.from({ length: size * size }, (_, i) =>
    level.get((pixels[4 * i] << 16) | (pixels[4 * i + 1] << 8) | pixels[4 * i + 2]));
}

function hover(event) {
  const image = event.target.closest?.("image.map");
  const tip = at("tip");
  if (!image) {
    tip.hidden = true;
    return;
  }
  const box = image.getBoundingClientRect();
  const size = Number(image.dataset.n);
  const index = (share) => Math.max(0, Math.min(size - 1, Math.floor(share * size)));
  const row = index((event.clientY - box.top) / box.height);
  const column = index((event.clientX - box.left) / box.width);
  const value = valueAt(image, row, column);
  const place = image.dataset.plane === "components"
    ? `${componentName(row)} of x, ${componentName(column)} of y`
    : image.dataset.plane === "logarithms" ? `log x = ${row}, log y = ${column}` : `x = ${row}, y = ${column}`;
  tip.textContent = `${place}: ${image.dataset.unit} ${value === null ? "…" : short(value)}`;
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}

function redraw() {
  const slider = at("step-slider");
  const frame = frames[Number(slider.value)];
  const neuron = Math.max(0, Math.min(dMlp - 1, Math.trunc(Number(at("neuron").value)) || 0));
  const followed = tracked.includes(neuron);
  const loss = (name, value) => (value === null ? "" : `, ${name} loss ${short(value)}`);
  at("step-output").textContent = `${frame.step === null ? "this checkpoint" : `step ${frame.step.toLocaleString("en")}`}${loss("train", frame.trainLoss)}${loss("test", frame.testLoss)}`;
  drawSpectrum("explorer-w-e", frame.wE);
  drawSpectrum("explorer-w-l", frame.wL);
  drawCircles(frame);
  const values = activation(tables(frame, neuron));
  drawMap("explorer-activation", values);
  drawMap("explorer-spectrum", transform2d(values));
  const of = data.frequency[neuron] ? `frequency ${data.frequency[neuron]} explains ${(100 * data.fve[neuron]).toFixed(1)} % of it` : "it does not vary";
  at("neuron-output").textContent = `at the last step ${of}; ${followed ? "followed through training" : "shown at the last step only"}`;
}

const logits = { wLogit: unpack(data.wLogit), wU: unpack(data.wU), constant: unpack(data.constant) };

/** The logits of a pair of indices by path: each head past the MLP, the MLP, and what is the same for all pairs. */
function paths(a, b) {
  const rows = [a, n + b, 2 * n];
  const written = Array.from({ length: heads }, () => new Float64Array(dModel));
  for (let head = 0; head < heads; head++) {
    const scores = rows.map((slot) => explorer.scores[slot * heads + head]);
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights[0] + weights[1] + weights[2];
    rows.forEach((slot, pos) => {
      const at = (head * slots + slot) * dModel;
      for (let i = 0; i < dModel; i++) written[head][i] += (weights[pos] / total) * explorer.written[at + i];
    });
  }
  const through = (x, table) => {
    const out = new Float64Array(n);
    x.forEach((value, i) => {
      if (value !== 0) for (let c = 0; c < n; c++) out[c] += value * table[i * n + c];
    });
    return out;
  };
  const mid = written[0].map((_, i) => written.reduce((sum, own) => sum + own[i], 0));
  const post = Float64Array.from({ length: dMlp }, (_, j) => {
    let pre = explorer.bias[j];
    for (let i = 0; i < dModel; i++) pre += mid[i] * explorer.wIn[j * dModel + i];
    return Math.max(pre, 0);
  });
  return [...written.map((own) => through(own, logits.wU)), through(post, logits.wLogit), logits.constant];
}

/** The component of frequency k of values over the classes. */
function component(values, k) {
  const out = new Float64Array(n);
  for (let row = 2 * k - 1; row <= 2 * k && row < n; row++) {
    let along = 0;
    for (let c = 0; c < n; c++) along += values[c] * basis[row][c];
    for (let c = 0; c < n; c++) out[c] += along * basis[row][c];
  }
  return out;
}

function drawPair() {
  const value = (id) => Number(at(id).value);
  const [a, b] = [data.elements.indexOf(value("pair-x")), data.elements.indexOf(value("pair-y"))];
  if (a < 0 || b < 0) {
    at("pair-output").textContent = `no such pair: x and y are among the ${n} elements of the group`;
    return;
  }
  const label = data.difference ? (a - b + n) % n : (a + b) % n;
  const parts = paths(a, b);
  const whole = Float64Array.from({ length: n }, (_, c) => parts.reduce((sum, part) => sum + part[c], 0));
  const mean = (part) => part.reduce((sum, x) => sum + x, 0) / n;
  const centred = (part) => part[label] - mean(part);
  const best = whole.reduce((best, x, c) => (c !== label && (best < 0 || x > whole[best]) ? c : best), -1);
  at("pair-output").textContent =
    `class ${data.elements[label]}: logit ${short(whole[label])}, the next class ${data.elements[best]} has ${short(whole[best])}`;
  const names = [...Array.from({ length: heads }, (_, head) => `head ${head}`), "MLP", "constant", "sum"];
  const rowOf = (name, values) => [name, ...values, values.reduce((sum, x) => sum + x, 0)];
  const ofKeys = keys.map((k) => rowOf(`k = ${k}`, parts.map((part) => component(part, k)[label])));
  const all = rowOf("correct logit, mean over classes taken away", parts.map(centred));
  const others = all.map((x, i) => (i === 0 ? "others" : x - ofKeys.reduce((sum, row) => sum + row[i], 0)));
  const cells = (tag, values) => values.map((x) => `<${tag}>${typeof x === "number" ? short(x) : x}</${tag}>`).join("");
  const body = [...ofKeys, others, all].map((row) => `<tr>${cells("td", row)}</tr>`).join("");
  at("pair-table").innerHTML = `<thead><tr>${cells("th", ["frequency", ...names])}</tr></thead><tbody>${body}</tbody>`;
  drawWaves(keys.map((k) => component(whole, k)), whole.map((x) => x - mean(whole)), label);
}

/** The waves of the keys over the classes about the label, and their sum with all others. */
function drawWaves(waves, whole, label) {
  const [width, height, left, top] = [360, 200, 40, 42];
  const half = Math.floor(n / 2);
  const places = Array.from({ length: n }, (_, i) => (label + i - half + n) % n);
  const values = [...waves, whole].flatMap((wave) => [...wave]);
  const [lo, hi] = [Math.min(...values), Math.max(...values)];
  const x = (i) => left + (i / (n - 1)) * (width - left - 14);
  const y = (value) => top + (1 - (value - lo) / (hi - lo || 1)) * (height - top - 34);
  const path = (wave) => places.map((c, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(wave[c]).toFixed(1)}`).join("");
  const name = (i) => (i < keys.length ? `k = ${keys[i]}` : "all");
  const line = (wave, i) => `<path class="line c${i % 7}" d="${path(wave)}"><title>${name(i)}</title></path>`;
  const legend = [...keys, "all"].map((_, i) =>
    `<path class="line c${i % 7}" d="M${left + 62 * (i % 5)} ${24 + 12 * Math.floor(i / 5)}h16"/><text class="small" x="${left + 20 + 62 * (i % 5)}" y="${28 + 12 * Math.floor(i / 5)}">${name(i)}</text>`).join("");
  at("figure-pair").innerHTML =
    `<svg class="figure" viewBox="0 0 ${width} ${height}" role="img" aria-label="Waves of the keys over the classes">
      <text class="title" x="8" y="14">Waves of the keys for this pair</text>${legend}
      <line class="grid" x1="${left}" x2="${width - 14}" y1="${y(0)}" y2="${y(0)}"/>
      <line class="mark" x1="${x(half)}" x2="${x(half)}" y1="${top}" y2="${height - 34}"/>
      <text class="small" x="${left - 4}" y="${top + 4}" text-anchor="end">${short(hi)}</text>
      <text class="small" x="${left - 4}" y="${height - 34}" text-anchor="end">${short(lo)}</text>
      ${[...waves, whole].map(line).join("")}
      <text class="axis-name" x="${(left + width) / 2}" y="${height - 8}" text-anchor="middle">class minus label, -${half} to ${n - 1 - half}</text>
    </svg>`;
}

if (at("pair")) {
  at("pair-x").addEventListener("input", drawPair);
  at("pair-y").addEventListener("input", drawPair);
  at("pair").hidden = false;
  drawPair();
}

at("step-slider").addEventListener("input", redraw);
at("neuron").addEventListener("input", redraw);
document.addEventListener("pointermove", hover);
document.addEventListener("pointerdown", hover);
at("explorer-controls").hidden = false;
redraw();
