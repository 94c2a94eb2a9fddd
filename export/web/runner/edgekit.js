/**
 * Runs an edgekit bundle in a browser: two canvases in, the whole answer out. The graph does the work; this module fetches the bundle,
 * refuses what does not match the manifest's hashes, and names the tensors. No DOM, so it also runs in a Web Worker.
 *
 *     import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";
 *     import { openPipeline } from "./bundle/runner/edgekit.js";
 *
 *     const pipeline = await openPipeline("./bundle/", { ort, threads: 2 });
 *     const answer = await pipeline.infer({ ap: canvas, lateral: null });
 *     console.log(answer.decision, answer.brand);
 *
 * A canvas is a Uint8Array of S * S gray levels, row by row, made from a film as docs/canvas.md says; S is `pipeline.side`.
 *
 * Many bundles also find the film in a photo of a screen. The canvas is that of the whole photo then, its side `pipeline.cornerSide`:
 *
 *     const found = await pipeline.findFilm(canvas);
 *     if (found && found.confidence > 0.3) straighten(photo, found.corners);
 *
 * @module
 */
import { findCorners } from "./corners.js";

const VIEWS = ["ap", "lateral"];
const OUTPUTS = [
  "probabilities", "members", "boxes", "box_scores", "view_scores", "heatmaps", "prediction_set", "unfamiliarity", "decision",
];
/** Words for the values 0 to 4 of the graph's `decision`. */
export const DECISIONS = ["identified", "ambiguous", "unfamiliar", "no construct found", "films swapped"];

/** The bundle was damaged or tampered with. */
export class BundleError extends Error {
  name = "BundleError";
}

/**
 * @typedef {object} Answer
 * @property {string} decision one of DECISIONS
 * @property {string | null} brand the answer; only when `decision` is "identified"
 * @property {string[]} predictionSet the brands that can't be excluded at the manifest's coverage
 * @property {Object<string, Float32Array | Int32Array>} outputs the graph's tensors, row by row
 * @property {Object<string, number[]>} shapes of `outputs`
 * @property {number} elapsedMs time of the graph alone
 *
 * @typedef {object} Check how far one output is from the golden vectors, and how far it may be
 * @property {string} output
 * @property {number} error
 * @property {number} tolerance
 */

let pageThreads = 0;

/**
 * Fetch, verify and load a bundle.
 *
 * @param {string | URL} base the bundle's folder
 * @param {object} options
 * @param {object} options.ort the module onnxruntime-web (WebAssembly)
 * @param {number} [options.threads] more than 1 needs a page that is cross-origin isolated
 * @param {(received: number, total: number) => void} [options.onProgress] called with bytes of the model while it arrives
 * @returns {Promise<Pipeline>}
 * @throws {BundleError} a file is missing, or its sha256 is not the one in the manifest
 */
export async function openPipeline(base, { ort, threads = 1, onProgress }) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("this page can't check hashes: serve it over HTTPS, or from localhost");
  }
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    throw new Error(
      "threads need a page served with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  if (pageThreads && pageThreads !== threads) {
    throw new Error(`this page runs with ${pageThreads} thread(s): onnxruntime-web fixes that when it starts; reload to change it`);
  }
  const folder = new URL(String(base).replace(/\/*$/, "/"), globalThis.location.href);
  const started = performance.now();
  const manifest = await readManifest(folder);
  const timings = { fetchMs: performance.now() - started, createMs: 0 };
  const load = async (name, whenReceived) => {
    const asked = performance.now();
    const model = await readFile(folder, manifest, name, whenReceived);
    const fetched = performance.now();
    ort.env.wasm.numThreads = pageThreads = threads;
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    timings.fetchMs += fetched - asked;
    timings.createMs += performance.now() - fetched;
    return session;
  };
  const finder = manifest.corners ? await load(manifest.corners.model) : null; // first, for it is small
  const session = await load(manifest.model, onProgress);
  return new Pipeline(folder, manifest, ort, { session, finder }, timings);
}

/** An opened bundle. */
export class Pipeline {
  #folder;
  #ort;
  #session;
  #finder;

  constructor(folder, manifest, ort, { session, finder }, timings) {
    this.#folder = folder;
    this.#ort = ort;
    this.#session = session;
    this.#finder = finder;
    /** The bundle's manifest.json. */
    this.manifest = manifest;
    /** Brands in the order of `probabilities`. @type {string[]} */
    this.brands = manifest.brands;
    /** Side S of the canvas in pixels. @type {number} */
    this.side = manifest.canvas.side;
    /** Side of the canvas that `findFilm` takes; null when the bundle has no corner finder. @type {number | null} */
    this.cornerSide = manifest.corners?.side ?? null;
    /** Milliseconds: fetching and verifying (`fetchMs`), starting the runtime and loading the graphs (`createMs`). */
    this.timings = timings;
  }

  /**
   * Answer for one patient.
   *
   * @param {object} films
   * @param {Uint8Array | null} [films.ap] canvas; null when the film is missing
   * @param {Uint8Array | null} [films.lateral]
   * @returns {Promise<Answer>}
   */
  async infer({ ap = null, lateral = null }) {
    const films = { ap, lateral };
    const present = Float32Array.from(VIEWS, (view) => (films[view] ? 1 : 0));
    const inputs = { present: new this.#ort.Tensor("float32", present, [2]) };
    for (const view of VIEWS) {
      inputs[view] = this.#wrap(view, films[view] ?? new Uint8Array(this.side ** 2), this.side);
    }
    const started = performance.now();
    const tensors = await this.#session.run(inputs, OUTPUTS);
    const elapsedMs = performance.now() - started;
    const outputs = Object.fromEntries(OUTPUTS.map((name) => [name, tensors[name].data]));
    const decision = DECISIONS[outputs.decision[0]];
    const likeliest = outputs.probabilities.indexOf(Math.max(...outputs.probabilities));
    return {
      decision,
      brand: decision === "identified" ? this.brands[likeliest] : null,
      predictionSet: this.brands.filter((_, index) => outputs.prediction_set[index] === 1),
      outputs,
      shapes: Object.fromEntries(OUTPUTS.map((name) => [name, tensors[name].dims])),
      elapsedMs,
    };
  }

  /**
   * Find the film in a photo of a screen.
   *
   * @param {Uint8Array} canvas of the photo or of the part of it around the film, `cornerSide` x `cornerSide`
   * @returns {Promise<import("./corners.js").Found | null>} null when the bundle has no corner finder
   */
  async findFilm(canvas) {
    if (!this.#finder) return null;
    const { edges } = await this.#finder.run({ photo: this.#wrap("photo", canvas, this.cornerSide) });
    return findCorners(edges.data, this.cornerSide);
  }

  /** A canvas as a tensor. */
  #wrap(name, canvas, side) {
    if (!(canvas instanceof Uint8Array) || canvas.length !== side ** 2) {
      throw new TypeError(`the canvas '${name}' must be a Uint8Array of ${side} x ${side}`);
    }
    return new this.#ort.Tensor("uint8", canvas, [1, 1, side, side]);
  }

  /**
   * Run the bundle's golden vectors.
   *
   * @returns {Promise<{ passed: boolean, checks: Check[] }>}
   */
  async selfTest() {
    const golden = JSON.parse(new TextDecoder().decode(await readFile(this.#folder, this.manifest, "golden/golden.json")));
    const errors = Object.fromEntries(OUTPUTS.map((name) => [name, 0]));
    for (const { films, outputs: expected } of golden.cases) {
      const canvases = {};
      for (const [view, file] of Object.entries(films)) {
        canvases[view] = await decodeGray(await readFile(this.#folder, this.manifest, `golden/${file}`));
      }
      const { outputs } = await this.infer(canvases);
      for (const name of OUTPUTS) {
        [expected[name]].flat(Infinity).forEach((value, index) => {
          // Without a construct the best cell is arbitrary, and so is its box.
          const counts = name !== "boxes" || expected.box_scores[Math.floor(index / 4)] >= this.manifest.thresholds.box;
          const error = Math.abs(outputs[name][index] - value);
          if (counts && !(error <= errors[name])) errors[name] = Number.isNaN(error) ? Infinity : error;
        });
      }
    }
    const checks = OUTPUTS.map((output) => ({ output, error: errors[output], tolerance: golden.tolerance[output] }));
    return { passed: checks.every(({ error, tolerance }) => error <= tolerance), checks };
  }

  /** Free the runtime's memory. */
  async close() {
    await Promise.all([this.#session.release(), this.#finder?.release()]);
  }
}

/** Read manifest.json and check the hash that ends it: that of the text before, closed with a brace. */
async function readManifest(folder) {
  const text = new TextDecoder().decode(await fetchFile(folder, "manifest.json"));
  const seal = ',\n  "manifest_sha256": "';
  const end = text.lastIndexOf(seal);
  const hash = await sha256(new TextEncoder().encode(`${text.slice(0, Math.max(end, 0))}\n}\n`));
  if (text.slice(end) !== `${seal}${hash}"\n}\n`) {
    throw new BundleError("manifest.json was changed: its sha256 is not the one it states");
  }
  return JSON.parse(text);
}

/** Fetch a file that the manifest lists, and check its hash. @returns {Promise<Uint8Array>} */
async function readFile(folder, manifest, name, onProgress) {
  const content = await fetchFile(folder, name, onProgress && ((received) => onProgress(received, manifest.files[name].size)));
  if ((await sha256(content)) !== manifest.files[name]?.sha256) {
    throw new BundleError(`${name} was changed: its sha256 is not the one in the manifest`);
  }
  return content;
}

async function fetchFile(folder, name, onReceived) {
  const url = new URL(name, folder);
  if (!url.href.startsWith(folder.href)) throw new BundleError(`${name} leaves the bundle`);
  const response = await fetch(url);
  if (!response.ok) throw new BundleError(`${name} is missing (HTTP ${response.status})`);
  if (!onReceived) return new Uint8Array(await response.arrayBuffer());
  const parts = [];
  let received = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    onReceived((received += part.value.length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Gray levels of an 8-bit grayscale PNG, exactly as they are stored. @returns {Promise<Uint8Array>} */
async function decodeGray(png) {
  const exact = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }), exact);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, pixel) => data[4 * pixel]);
}
