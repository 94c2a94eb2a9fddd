/** A worker with the model: it checks the bundle's hashes, opens it, and answers. */
import { BundleError, openPipeline } from "../runner/edgekit.js";
import * as ort from "../runtime/ort.wasm.bundle.min.mjs";
import { Problem } from "./problems.js";
import { answerCalls } from "./workers.js";

const BUNDLE = new URL("../bundle/", import.meta.url);

let pipeline;

answerCalls({
  async open({ threads }, tell) {
    const onProgress = (received, total) => tell({ received, total });
    try {
      pipeline = await openPipeline(BUNDLE, { ort, threads, onProgress });
      await pipeline.infer({ ap: new Uint8Array(pipeline.side ** 2) }); // the first run is slow: not while somebody waits
    } catch (error) {
      if (error instanceof BundleError) throw new Problem("tampered", { reason: error.message });
      if (error instanceof TypeError) throw new Problem("unreachable");
      throw error;
    }
    const { manifest, side, cornerSide, timings } = pipeline;
    const { name, precision, brands, thresholds, intended_use: intendedUse, model_sha256: hash, verified, provenance } = manifest;
    const version = provenance.run.sha256.slice(0, 12);
    return { name, precision, version, hash, brands, thresholds, intendedUse, verified, side, cornerSide, threads, timings };
  },

  infer: (films) => pipeline.infer(films),

  /** Find the film on the canvas of a photo; null when the bundle can't. */
  findFilm: async ({ canvas }) => ({ found: await pipeline.findFilm(canvas) }),

  /** The bundle's golden vectors: does this device answer as the one that made the bundle? */
  selfTest: () => pipeline.selfTest(),
});
