/**
 * Runs an edgekit bundle in a browser: one canvas a view in, the whole answer out. The graph does the work; this module fetches the bundle,
 * refuses what does not match the manifest's hashes, refuses a device that does not give the golden answers, and names the tensors, as the
 * manifest lists them. No DOM, so it also runs in a Web Worker.
 *
 *     import { openPipeline } from "./bundle/runner/edgekit.js";
 *
 *     const pipeline = await openPipeline("./bundle/", { runtime: "./litert/", threads: 2 });
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
import { fetchBytes, hashBytes, RuntimeFileError } from "./fetching.js";
import { compareAnswers, readGolden } from "./golden.js";
import { forget, identify, recall, remember } from "./memory.js";
import { chooseWay, describeChecks, DisagreementError } from "./ways.js";

export { DisagreementError, RuntimeFileError };

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

/** The runtimes, by the backend that made the bundle. */
const RUNTIMES = { onnx: "./onnx/runtime.js", litert: "./litert/runtime.js" };

/**
 * @typedef {object} Runtime what one is started for
 * @property {(content: Uint8Array) => Promise<Graph>} load
 *
 * @typedef {{ data: Uint8Array | Float32Array | Int32Array, shape: number[] }} Tensor
 *
 * @typedef {object} Graph
 * @property {(inputs: Object<string, Tensor>, names: string[]) => Promise<Object<string, Tensor>>} run gives the outputs of these names
 * @property {() => Promise<void>} close
 */

/**
 * Fetch, verify and load a bundle, and check its golden vectors: once for each bundle, runtime, browser and machine, as far as the browser
 * tells. What passed is remembered in Cache Storage; what failed is not.
 *
 * @param {string | URL} base the bundle's folder
 * @param {object} [options]
 * @param {string | URL} [options.runtime] the folder of the runtime; else the one beside the bundle that has the runtime's name
 * @param {number} [options.threads] more than 1 needs a page that is cross-origin isolated
 * @param {string[]} [options.ways] the names of ways to try; else the fastest that gives the golden answers, of those with at most `threads`
 * @param {boolean} [options.check] false for who judges the answers himself, wrong ones too
 * @param {(manifest: object) => void} [options.onManifest] called with the manifest, its hash checked, before the model arrives
 * @param {(received: number, total: number) => void} [options.onProgress] called with bytes of the model while it arrives
 * @returns {Promise<Pipeline>}
 * @throws {BundleError} a file of the bundle is missing, or its sha256 is not the one in the manifest
 * @throws {RuntimeFileError} so is a file of the runtime
 * @throws {DisagreementError} this device does not give the golden answers
 * @throws {RangeError} this device is short of memory
 */
export async function openPipeline(base, { runtime, threads = 1, ways, check = true, onManifest, onProgress } = {}) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("this page can't check hashes: serve it over HTTPS, or from localhost");
  }
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    throw new Error(
      "threads need a page served with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  const folder = toFolder(base, globalThis.location.href);
  const started = performance.now();
  const manifest = await readManifest(folder);
  onManifest?.(manifest);
  const path = RUNTIMES[manifest.backend];
  if (!path) throw new BundleError(`it was made by the backend ${manifest.backend}, which runs in no browser`);
  const { NAME, VERSION, listWays, start } = await import(path);
  const home = toFolder(runtime ?? new URL(`../${NAME}/`, folder), globalThis.location.href);
  const wanted = (await listWays(threads)).filter(({ name }) => !ways || ways.includes(name));
  if (!wanted.length) throw new Error(`${NAME} has no way ${ways.join(", ")} with ${threads} thread(s)`);
  const possible = wanted.filter(({ missing }) => !missing);
  if (!possible.length) throw new Error(`${NAME} can't run as ${wanted[0].name}: ${wanted[0].missing}`);
  const missing = wanted.filter((way) => way.missing).map((way) => ({ way: way.name, reason: way.missing }));
  const read = (name, whenReceived) => readFile(folder, manifest, name, whenReceived);
  const identity = check ? await identify(manifest, VERSION, possible.map(({ name }) => name)) : null;
  const known = check ? await recall(folder, identity) : null;
  const candidates = known ? possible.filter(({ name }) => name === known.way) : possible;

  const first = start(home, candidates[0]); // the runtime starts while the model arrives
  first.catch(() => {}); // it is heard of when its turn comes
  const [finder, model, golden] = await Promise.all([
    manifest.corners ? read(manifest.corners.model) : null,
    read(manifest.model, onProgress),
    check && !known ? readGolden(read) : null,
  ]);
  const timings = { fetchMs: performance.now() - started, createMs: 0, checkMs: 0 };

  const attempt = async (way) => {
    const asked = performance.now();
    const { load } = await (way === candidates[0] ? first : start(home, way));
    const graphs = { finder: finder && (await load(finder)), graph: await load(model) };
    const pipeline = new Pipeline(folder, manifest, graphs, timings);
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

  const { way, opened, rejected } = await chooseWay(candidates, attempt).catch(async (error) => {
    if (known) await forget(folder); // what opened once opens no more: the next opening tries every way again
    throw error;
  });
  opened.way = way.name;
  opened.runtime = { name: NAME, version: VERSION, files: way.files.map((name) => new URL(name, home).href) };
  opened.rejected = [...missing, ...(known?.rejected ?? rejected)];
  opened.isRemembered = Boolean(known);
  if (golden) await remember(folder, identity, { way: way.name, rejected });
  return opened;
}

const toFolder = (address, from) => new URL(String(address).replace(/\/*$/, "/"), from);

/** An opened bundle. */
export class Pipeline {
  #folder;
  #graph;
  #finder;

  constructor(folder, manifest, { graph, finder }, timings) {
    this.#folder = folder;
    this.#graph = graph;
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
     * Milliseconds: fetching and verifying (`fetchMs`), what is left of the runtime's start then and loading the graphs (`createMs`), the
     * golden vectors (`checkMs`, 0 when they were checked before).
     */
    this.timings = timings;
    /** What answers: "wasm, 2 threads". @type {string} */
    this.way = "";
    /** By which runtime, and the addresses of what it loaded. @type {{ name: string, version: string, files: string[] }} */
    this.runtime = null;
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
    for (const [name, { shape }] of Object.entries(this.manifest.tensors.inputs)) {
      inputs[name] =
        name === PRESENT
          ? { data: Float32Array.from(this.views, (view) => (films[view] ? 1 : 0)), shape }
          : wrapCanvas(name, films[name] ?? new Uint8Array(this.side ** 2), this.side);
    }
    const names = Object.keys(this.manifest.tensors.outputs);
    const started = performance.now();
    const tensors = await this.#graph.run(inputs, names);
    const elapsedMs = performance.now() - started;
    const outputs = Object.fromEntries(names.map((name) => [name, tensors[name].data]));
    const decision = DECISIONS[outputs.decision[0]];
    const likeliest = outputs.probabilities.indexOf(Math.max(...outputs.probabilities));
    return {
      decision,
      brand: decision === "identified" ? this.brands[likeliest] : null,
      predictionSet: this.brands.filter((_, index) => outputs.prediction_set[index] === 1),
      outputs,
      shapes: Object.fromEntries(names.map((name) => [name, tensors[name].shape])),
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
    const { edges } = await this.#finder.run({ photo: wrapCanvas("photo", canvas, this.cornerSide) }, ["edges"]);
    return findCorners(edges.data, this.cornerSide);
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
    await Promise.all([this.#graph.close(), this.#finder?.close()]);
  }
}

/** A canvas as a tensor. */
function wrapCanvas(name, canvas, side) {
  if (!(canvas instanceof Uint8Array) || canvas.length !== side ** 2) {
    throw new TypeError(`the canvas '${name}' must be a Uint8Array of ${side} x ${side}`);
  }
  return { data: canvas, shape: [1, 1, side, side] };
}

/** Read manifest.json and check the hash that ends it: that of the text before, closed with a brace. */
async function readManifest(folder) {
  const text = new TextDecoder().decode(await fetchFile(folder, "manifest.json"));
  const seal = ',\n  "manifest_sha256": "';
  const end = text.lastIndexOf(seal);
  const hash = await hashBytes(new TextEncoder().encode(`${text.slice(0, Math.max(end, 0))}\n}\n`));
  if (text.slice(end) !== `${seal}${hash}"\n}\n`) {
    throw new BundleError("manifest.json was changed: its sha256 is not the one it states");
  }
  return JSON.parse(text);
}

/** Fetch a file that the manifest lists, and check its hash. @returns {Promise<Uint8Array>} */
async function readFile(folder, manifest, name, onProgress) {
  const content = await fetchFile(folder, name, onProgress && ((received) => onProgress(received, manifest.files[name].size)));
  if ((await hashBytes(content)) !== manifest.files[name]?.sha256) {
    throw new BundleError(`${name} was changed: its sha256 is not the one in the manifest`);
  }
  return content;
}

async function fetchFile(folder, name, onReceived) {
  const url = new URL(name, folder);
  if (!url.href.startsWith(folder.href)) throw new BundleError(`${name} leaves the bundle`);
  return fetchBytes(url, onReceived).catch((error) => {
    throw error instanceof TypeError ? error : new BundleError(`${name} ${error.message}`);
  });
}
