/**
 * onnxruntime-web (WebAssembly) behind the three calls by which `edgekit.js` uses a runtime; see runner/README.md.
 *
 * @module
 */
import { fetchRuntime } from "../fetching.js";
import { nameWay } from "../ways.js";

export const NAME = "onnxruntime-web";
export const VERSION = "1.30.0";

const MODULE = "ort.wasm.bundle.min.mjs";
const BINARY = "ort-wasm-simd-threaded.wasm";

/** Its files, as npm has them: sha256 by name. */
export const FILES = {
  [MODULE]: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
  [BINARY]: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
};

const REMEDY = `serve the files of npm's ${NAME} ${VERSION} (dist/)`;

/** @param {number} threads @returns {Promise<import("../ways.js").Way[]>} the fastest first */
export async function listWays(threads) {
  const counts = threads > 1 ? [threads, 1] : [1];
  return counts.map((count) => ({ name: nameWay(count), threads: count, files: Object.keys(FILES) }));
}

/**
 * Start the runtime: a copy for each number of threads, for a copy never changes it.
 *
 * @param {URL} folder that has `FILES`
 * @param {import("../ways.js").Way} way
 * @returns {Promise<import("../edgekit.js").Runtime>}
 */
export async function start(folder, { threads }) {
  const contents = await fetchRuntime(folder, FILES, REMEDY);
  const ort = await import(new URL(`${MODULE}?threads=${threads}`, folder));
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = contents[BINARY];
  return { load: async (content) => wrap(ort, await ort.InferenceSession.create(content, { executionProviders: ["wasm"] })) };
}

const wrap = (ort, session) => ({
  async run(inputs, names) {
    const give = ([name, { data, shape }]) => [name, new ort.Tensor(data, shape)];
    const tensors = await session.run(Object.fromEntries(Object.entries(inputs).map(give)), names);
    return Object.fromEntries(names.map((name) => [name, { data: tensors[name].data, shape: tensors[name].dims }]));
  },
  close: () => session.release(),
});
