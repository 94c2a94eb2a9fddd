/** A worker with the model: it checks the bundle's hashes, opens it, checks this device with the golden vectors, and answers. */
import { BundleError, DisagreementError, openPipeline, RuntimeFileError } from "../runner/edgekit.js";
import { describeChecks } from "../runner/ways.js";
import { Problem } from "./problems.js";
import { answerCalls } from "./workers.js";

const BUNDLE = new URL("../bundle/", import.meta.url);
const RUNTIME = new URL("../runtime/", import.meta.url);

let pipeline;

answerCalls({
  /** Open the bundle; tells what it is asked as soon as that is known, then how much of the model has arrived. */
  async open({ threads }, tell) {
    const onManifest = ({ task, cases }) => tell({ task, cases });
    const onProgress = (received, total) => tell({ received, total });
    try {
      pipeline = await openPipeline(BUNDLE, { runtime: RUNTIME, threads, onManifest, onProgress });
      // The first run is slow: not while somebody waits. The golden vectors were it, unless they were checked before.
      if (pipeline.isRemembered) await pipeline.infer({ [pipeline.views[0]]: new Uint8Array(pipeline.side ** 2) });
    } catch (error) {
      if (error instanceof DisagreementError) throw new Problem("disagrees", { rejected: error.rejected });
      if (error instanceof BundleError) throw new Problem("tampered", { reason: error.message });
      if (error instanceof RuntimeFileError) throw new Problem("runtime", { reason: error.message });
      if (error instanceof RangeError) throw new Problem("memoryOfModel");
      if (error instanceof TypeError) throw new Problem("unreachable");
      throw error;
    }
    const { manifest, task, side, cornerSide, timings, way, rejected, runtime } = pipeline;
    const { name, precision, brands, cases, crop, thresholds, model_sha256: hash, verified, provenance } = manifest;
    const said = { name, precision, version: provenance.run.sha256.slice(0, 12), hash, verified, task, cases, brands, thresholds, margin: crop.margin };
    return { ...said, intendedUse: task.intended_use, side, cornerSide, way, rejected, runtime, timings };
  },

  async infer(films) {
    try {
      return await pipeline.infer(films);
    } catch (error) {
      throw error instanceof RangeError ? new Problem("memoryOfModel") : error;
    }
  },

  /** Find the film on the canvas of a photo; null when the bundle can't. */
  findFilm: async ({ canvas }) => ({ found: await pipeline.findFilm(canvas) }),

  /** The bundle's golden vectors once more: does this device answer as the one that made the bundle? */
  async selfTest() {
    const { passed, checks } = await pipeline.selfTest();
    if (!passed) throw new Problem("disagrees", { rejected: [{ way: pipeline.way, reason: describeChecks(checks) }] });
    return {};
  },
});
