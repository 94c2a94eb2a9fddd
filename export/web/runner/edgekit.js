/**
 * Runs an edgekit bundle in a browser: one canvas a view in, the whole answer out. The graph does the work; this module fetches the bundle,
 * refuses what does not match the manifest's hashes, refuses a device that does not give the golden answers, and names the tensors, as the
 * manifest lists them. No DOM, so it also runs in a Web Worker.
 *
 *     import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";
 *     import { openPipeline } from "./bundle/runner/edgekit.js";
 *
 *     const pipeline = await openPipeline("./bundle/", { ort, threads: 2 });
 *     const answer = await pipeline.infer({ ap: canvas }); // by view: `pipeline.views` names them
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
import { compareAnswers, readGolden } from "./golden.js";
import { forget, identify, recall, remember } from "./memory.js";
import { chooseWay, describeChecks, DisagreementError } from "./ways.js";

export { DisagreementError };

/** Words for the values 0 to 4 of the graph's `decision`: for programs. What is looked for is `pipeline.manifest.task.found`. */
export const DECISIONS = ["identified", "ambiguous", "unfamiliar", "no construct found", "films swapped"];

/** The bundle was damaged or tampered with. */
export class BundleError extends Error {
  name = "BundleError";
}

/**
 * @typedef {object} Task what the bundle is asked: `task` of its manifest
 * @property {string} name
 * @property {string} question asked of a patient's films
 * @property {string} found the word for what is looked for on a film
 * @property {string} told the word for what is answered
 * @property {string[]} views one to three, in the order of the graph
 * @property {boolean} locate whether something is found on a film before it is named; false takes the whole film
 * @property {string} intended_use the statement shown wherever an answer is
 *
 * @typedef {object} Answer
 * @property {string} decision one of DECISIONS
 * @property {string | null} brand the answer; only when `decision` is "identified"
 * @property {string[]} predictionSet the brands that can't be excluded at the manifest's coverage
 * @property {Object<string, Float32Array | Int32Array>} outputs the graph's tensors, row by row
 * @property {Object<string, number[]>} shapes of `outputs`
 * @property {number} elapsedMs time of the graph alone
 */

/** What tells the graph which films are given; its other inputs are the films. */
const PRESENT = "present";

/** Threads that a runtime started with, by its module: it never changes them. */
const startedThreads = new WeakMap();

/**
 * Fetch, verify and load a bundle, and check its golden vectors: once for each bundle, runtime, browser and machine, as far as the browser
 * tells. What passed is remembered in Cache Storage; what failed is not.
 *
 * @param {string | URL} base the bundle's folder
 * @param {object} options
 * @param {object} options.ort the module onnxruntime-web (WebAssembly)
 * @param {number} [options.threads] more than 1 needs a page that is cross-origin isolated
 * @param {() => Promise<object>} [options.importAnew] imports a fresh copy of `ort`: one thread is tried with it where more give other answers
 * @param {boolean} [options.check] false for who judges the answers himself, wrong ones too
 * @param {(manifest: object) => void} [options.onManifest] called with the manifest, its hash checked, before the model arrives
 * @param {(received: number, total: number) => void} [options.onProgress] called with bytes of the model while it arrives
 * @returns {Promise<Pipeline>}
 * @throws {BundleError} a file is missing, or its sha256 is not the one in the manifest
 * @throws {DisagreementError} this device does not give the golden answers
 */
export async function openPipeline(base, { ort, threads = 1, importAnew, check = true, onManifest, onProgress }) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("this page can't check hashes: serve it over HTTPS, or from localhost");
  }
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    throw new Error(
      "threads need a page served with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  if ((startedThreads.get(ort) ?? threads) !== threads) {
    throw new Error(`this page runs with ${startedThreads.get(ort)} thread(s): onnxruntime-web fixes that when it starts; reload to change it`);
  }
  const folder = new URL(String(base).replace(/\/*$/, "/"), globalThis.location.href);
  const started = performance.now();
  const manifest = await readManifest(folder);
  onManifest?.(manifest);
  const ways = [{ name: nameWay(threads), threads, load: () => ort }];
  if (threads > 1 && importAnew) ways.push({ name: nameWay(1), threads: 1, load: importAnew });
  const read = (name, whenReceived) => readFile(folder, manifest, name, whenReceived);
  const remembering = async () => {
    const identity = await identify(manifest, ort.env.versions.web, ways.map(({ name }) => name));
    return { identity, known: await recall(folder, identity) };
  };
  const [{ identity, known }, finder, model] = await Promise.all([
    check ? remembering() : {},
    manifest.corners ? read(manifest.corners.model) : null,
    read(manifest.model, onProgress),
  ]);
  const golden = check && !known ? await readGolden(read) : null;
  const timings = { fetchMs: performance.now() - started, createMs: 0, checkMs: 0 };

  const attempt = async (way) => {
    const asked = performance.now();
    const runtime = await way.load();
    runtime.env.wasm.numThreads = way.threads;
    startedThreads.set(runtime, way.threads);
    const create = (content) => runtime.InferenceSession.create(content, { executionProviders: ["wasm"] });
    const sessions = { finder: finder && (await create(finder)), session: await create(model) };
    const pipeline = new Pipeline(folder, manifest, runtime, sessions, timings);
    const created = performance.now();
    timings.createMs += created - asked;
    if (golden) {
      const { passed, checks } = await pipeline.compare(golden);
      timings.checkMs += performance.now() - created;
      if (!passed) {
        await pipeline.close();
        throw new DisagreementError(describeChecks(checks));
      }
    }
    return pipeline;
  };

  const open = chooseWay(known ? ways.filter(({ name }) => name === known.way) : ways, attempt);
  const { way, opened, rejected } = await open.catch(async (error) => {
    if (known) await forget(folder); // what opened once opens no more: the next opening tries every way again
    throw error;
  });
  opened.way = way.name;
  opened.rejected = known?.rejected ?? rejected;
  opened.isRemembered = Boolean(known);
  if (golden) await remember(folder, identity, { way: way.name, rejected });
  return opened;
}

const nameWay = (threads) => `wasm, ${threads} thread${threads > 1 ? "s" : ""}`;

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
    /** What is asked. @type {Task} */
    this.task = manifest.task;
    /** Names of the films, in the order of `present`, `found` and `boxes`. @type {string[]} */
    this.views = manifest.task.views;
    /** Side S of the canvas in pixels. @type {number} */
    this.side = manifest.canvas.side;
    /** Side of the canvas that `findFilm` takes; null when the bundle has no corner finder. @type {number | null} */
    this.cornerSide = manifest.corners?.side ?? null;
    /**
     * Milliseconds: fetching and verifying (`fetchMs`), starting the runtime and loading the graphs (`createMs`), the golden vectors
     * (`checkMs`, 0 when they were checked before).
     */
    this.timings = timings;
    /** What answers: "wasm, 2 threads". @type {string} */
    this.way = "";
    /** Faster ways that are not used. @type {import("./ways.js").Rejection[]} */
    this.rejected = [];
    /** Whether the golden vectors were checked before, and not now. @type {boolean} */
    this.isRemembered = false;
  }

  /**
   * Answer for one patient.
   *
   * @param {Object<string, Uint8Array | null>} films canvas by view; a film that is missing is null or not there
   * @returns {Promise<Answer>}
   */
  async infer(films) {
    const unknown = Object.keys(films).filter((name) => !this.views.includes(name));
    if (unknown.length) throw new TypeError(`'${unknown.join("', '")}' is no view of this bundle: it has ${this.views.join(", ")}`);
    const inputs = {};
    for (const [name, { dtype, shape }] of Object.entries(this.manifest.tensors.inputs)) {
      inputs[name] =
        name === PRESENT
          ? new this.#ort.Tensor(dtype, Float32Array.from(this.views, (view) => (films[view] ? 1 : 0)), shape)
          : this.#wrap(name, films[name] ?? new Uint8Array(this.side ** 2), this.side);
    }
    const names = Object.keys(this.manifest.tensors.outputs);
    const started = performance.now();
    const tensors = await this.#session.run(inputs, names);
    const elapsedMs = performance.now() - started;
    const outputs = Object.fromEntries(names.map((name) => [name, tensors[name].data]));
    const decision = DECISIONS[outputs.decision[0]];
    const likeliest = outputs.probabilities.indexOf(Math.max(...outputs.probabilities));
    return {
      decision,
      brand: decision === "identified" ? this.brands[likeliest] : null,
      predictionSet: this.brands.filter((_, index) => outputs.prediction_set[index] === 1),
      outputs,
      shapes: Object.fromEntries(names.map((name) => [name, tensors[name].dims])),
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
   * Run the bundle's golden vectors, also when they were checked before; a failure is found out again at the next opening.
   *
   * @returns {Promise<{ passed: boolean, checks: import("./golden.js").Check[] }>}
   */
  async selfTest() {
    const found = await this.compare(await readGolden((name) => readFile(this.#folder, this.manifest, name)));
    if (!found.passed) await forget(this.#folder);
    return found;
  }

  /**
   * @param {import("./golden.js").Golden} golden
   * @returns {Promise<{ passed: boolean, checks: import("./golden.js").Check[] }>}
   */
  compare(golden) {
    return compareAnswers(golden, (canvases) => this.infer(canvases), this.manifest.tensors.outputs);
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
