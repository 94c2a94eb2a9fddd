/**
 * LiteRT.js (WebAssembly) behind the three calls by which `edgekit.js` uses a runtime; see runner/README.md.
 *
 * It comes in builds: `threaded`, a plain one, and `compat`. The first two need relaxed SIMD, which not every browser has.
 *
 * @module
 */
import { fetchRuntime } from "../fetching.js";
import { nameWay } from "../ways.js";

export const NAME = "litert";
export const VERSION = "2.5.3";

const MODULE = "litert.js";

/** Its files, as npm has them but for one import (see `MODULE` in runner/README.md): sha256 by name. */
export const FILES = {
  [MODULE]: "aa78a8a8aa7c72f55b50dd74fe440856e50693326011ef357db9f9dc93738b7b",
  "litert_wasm_compat_internal.js": "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
  "litert_wasm_compat_internal.wasm": "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
  "litert_wasm_internal.js": "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
  "litert_wasm_internal.wasm": "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
  "litert_wasm_threaded_internal.js": "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849",
  "litert_wasm_threaded_internal.wasm": "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf",
  "wasm-utils.js": "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
};

const REMEDY = `serve the files of npm's @litertjs/core ${VERSION} as runner/README.md says`;

/** The smallest module with an instruction of relaxed SIMD, i8x16.relaxed_swizzle. */
const RELAXED_SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
);

/** LiteRT.js started in each build, by its script's address. @type {Map<string, Promise<object>>} */
const started = new Map();
/** What makes a build's module, by its script's address: a script runs once. */
const factories = new Map();
/** The start under way: LiteRT.js's loader talks to its module through global names, so one starts after the other. */
let turn = Promise.resolve();

/** @param {number} threads @returns {Promise<import("../ways.js").Way[]>} the fastest first */
export async function listWays(threads) {
  const missing = WebAssembly.validate(RELAXED_SIMD) ? null : "this browser has no relaxed SIMD";
  const ways = [
    makeWay(nameWay(1), 1, "", missing),
    makeWay(`${nameWay(1)}, compat`, 1, "compat_", null),
  ];
  return threads > 1 ? [makeWay(nameWay(threads), threads, "threaded_", missing), ...ways] : ways;
}

function makeWay(name, threads, build, missing) {
  const script = `litert_wasm_${build}internal.js`;
  return { name, threads, missing, script, files: [MODULE, "wasm-utils.js", script, script.replace(/js$/, "wasm")] };
}

/**
 * Start the runtime.
 *
 * @param {URL} folder that has `FILES`
 * @param {import("../ways.js").Way} way
 * @returns {Promise<import("../edgekit.js").Runtime>}
 */
export async function start(folder, { threads, script, files }) {
  const { href } = new URL(script, folder);
  if (!started.has(href)) {
    const begun = begin(folder, script, files);
    started.set(href, begun);
    begun.catch(() => started.delete(href));
  }
  const litert = await started.get(href);
  return { load: async (content) => wrap(litert, await compile(litert, content, threads)) };
}

async function begin(folder, script, files) {
  const contents = await fetchRuntime(folder, Object.fromEntries(files.map((name) => [name, FILES[name]])), REMEDY);
  const litert = await import(new URL(`${MODULE}?${script}`, folder)); // a copy for each build: a copy loads one
  const own = turn.then(() => load(litert, new URL(script, folder).href, contents[script.replace(/js$/, "wasm")]));
  turn = own.catch(() => {});
  await own;
  return litert;
}

/** Give LiteRT.js's loader its module as an import: it would fetch a script, which a worker that is a module can't run. */
async function load(litert, script, wasmBinary) {
  const names = ["define", "importScripts", "Module", "ModuleFactory"];
  const before = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
  const set = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  try {
    if (!factories.has(script)) {
      set("define", Object.assign((_, make) => factories.set(script, make()), { amd: true })); // such scripts export themselves to it
      await import(script);
    }
    set("importScripts", () => {});
    set("ModuleFactory", factories.get(script));
    set("Module", { wasmBinary, mainScriptUrlOrBlob: script });
    await litert.loadLiteRt(script);
  } catch (error) {
    throw explain(error);
  } finally {
    names.forEach((name, place) => {
      if (before[place]) Object.defineProperty(globalThis, name, before[place]);
      else delete globalThis[name];
    });
  }
}

async function compile(litert, content, numThreads) {
  try {
    return await litert.getGlobalLiteRt().loadAndCompile(content, { accelerator: "wasm", cpuOptions: { numThreads } });
  } catch (error) {
    throw explain(error);
  }
}

const wrap = ({ Tensor }, model) => ({
  async run(inputs, names) {
    const given = {};
    let made = {};
    try {
      for (const [name, { data, shape }] of Object.entries(inputs)) given[name] = new Tensor(data, shape);
      made = await model.run(given);
      return Object.fromEntries(names.map((name) => [name, { data: made[name].toTypedArray().slice(), shape: [...made[name].type.layout.dimensions] }]));
    } catch (error) {
      throw explain(error);
    } finally {
      for (const tensor of [...Object.values(given), ...Object.values(made)]) tensor.delete(); // the garbage collector knows nothing of them
    }
  },
  close: async () => model.delete(),
});

/** A device without room says so in words of its own; pages know it as a RangeError. */
const explain = (error) => (/memory|OOM|allocat/i.test(error.message ?? error) ? new RangeError(`this device is short of memory: ${error.message ?? error}`) : error);
