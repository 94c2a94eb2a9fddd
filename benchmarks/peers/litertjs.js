/**
 * A page's own code around three networks in LiteRT.js, as its author would write it: letterbox, best box, crops, members, ensemble.
 *
 * @module
 */
import { Tensor, loadAndCompile, loadLiteRt } from "/runtime/litert.js";

/** Share of a box's side that is added on each side before cropping. */
const MARGIN = 0.05;

/** @type {Record<string, { run: (film: OffscreenCanvas, area: number[]) => Promise<{ data: Float32Array, shape: Int32Array }> }>} */
const networks = {};
/** @type {{ views: string[], threshold: number, cases: object[] }} */
let settings;

/**
 * Start LiteRT.js and compile the networks.
 *
 * @param {{ views: string[], threads: number, threshold: number, cases: object[] }} options
 * @returns {Promise<{ fetch: number, create: number }>} in ms
 */
export async function open({ threads, ...others }) {
  settings = others;
  const started = performance.now();
  const names = ["detector", ...settings.views];
  const files = await Promise.all(names.map(async (name) => new Uint8Array(await (await fetch(`/networks/${name}.tflite`)).arrayBuffer())));
  const fetched = performance.now();
  await loadLiteRt("/runtime/", { threads: threads > 1 });
  for (const [index, name] of names.entries()) {
    const model = await loadAndCompile(files[index], { accelerator: "wasm", cpuOptions: { numThreads: threads } });
    networks[name] = wrap(model, name === "detector" ? "low" : "high"); // as ultralytics' letterbox, and antialiased
  }
  return { fetch: fetched - started, create: performance.now() - fetched };
}

/** Lay a film, gray bytes of a square, onto a canvas: that is how a page has its films. */
export function draw(gray) {
  const side = Math.sqrt(gray.length);
  const pixels = new ImageData(side, side);
  gray.forEach((value, index) => pixels.data.fill(value, 4 * index, 4 * index + 3));
  for (let index = 3; index < pixels.data.length; index += 4) pixels.data[index] = 255;
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  context.putImageData(pixels, 0, 0);
  return context.canvas;
}

/**
 * Answer for one patient.
 *
 * @param {(OffscreenCanvas | null)[]} films by view
 * @returns {Promise<{ probabilities: number[] | null, boxes: (number[] | null)[] }>} none for films on which nothing was found
 */
export async function answer(films) {
  const rows = {};
  const boxes = [];
  for (const [index, view] of settings.views.entries()) {
    const film = films[index];
    const box = film && (await find(film));
    boxes.push(box);
    if (box) rows[view] = softmax((await networks[view].run(film, widen(box, film.width))).data);
  }
  return { probabilities: combine(rows), boxes };
}

/** Give a network parts of films as float32 (1, 1, side, side) in [0, 1], drawn in a quality of the canvas. */
function wrap(model, quality) {
  const shape = [...model.getInputDetails()[0].shape];
  const [, , height, width] = shape;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = quality;
  const gray = new Float32Array(height * width);
  const run = async (film, [x0, y0, x1, y1]) => {
    context.drawImage(film, x0, y0, x1 - x0, y1 - y0, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    for (let index = 0; index < gray.length; index++) gray[index] = data[4 * index] / 255;
    const input = new Tensor(gray, shape);
    const [output] = await model.run(input);
    const answer = { data: await output.data(), shape: model.getOutputDetails()[0].shape };
    input.delete(); // the garbage collector knows nothing of them
    output.delete();
    return answer;
  };
  return { run };
}

/** Return the best box above the threshold, in pixels of the film, or null. A film has one: suppressing the others would not change it. */
async function find(film) {
  const side = film.width; // films are square, so a letterbox has no bars
  const { data, shape } = await networks.detector.run(film, [0, 0, side, side]); // rows: x, y, width, height as shares, then classes
  const [, rows, places] = shape;
  let [best, at] = [settings.threshold, -1];
  for (let place = 4 * places; place < rows * places; place++) {
    if (data[place] > best) [best, at] = [data[place], place % places];
  }
  if (at < 0) return null;
  const [x, y, width, height] = [0, 1, 2, 3].map((row) => data[row * places + at] * side);
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2].map((edge) => Math.min(Math.max(edge, 0), side));
}

function widen([x0, y0, x1, y1], side) {
  const [padX, padY] = [MARGIN * (x1 - x0), MARGIN * (y1 - y0)];
  return [Math.max(0, x0 - padX), Math.max(0, y0 - padY), Math.min(side, x1 + padX), Math.min(side, y1 + padY)];
}

function softmax(logits) {
  const most = Math.max(...logits);
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = exponentials.reduce((total, value) => total + value);
  return exponentials.map((value) => value / sum);
}

/** Evaluate the logistic regression that was fitted for the films found; null where none was. */
function combine(rows) {
  const fitted = settings.cases.find(({ views }) => views.length === Object.keys(rows).length && views.every((view) => view in rows));
  if (!fitted) return null;
  const features = fitted.members.flatMap((member) => rows[member]);
  return softmax(fitted.coefficients.map((row, brand) => row.reduce((sum, value, index) => sum + value * features[index], fitted.intercepts[brand])));
}
