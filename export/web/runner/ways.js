/**
 * The ways in which a device can run a graph: the fastest that gives the golden answers is taken.
 *
 * @module
 */
import { RuntimeFileError } from "./fetching.js";
import { isWithin } from "./golden.js";

/** @param {number} threads @returns {string} the name of a way to run a graph in WebAssembly */
export const nameWay = (threads) => `wasm, ${threads} thread${threads > 1 ? "s" : ""}`;

/**
 * @typedef {object} Way a way to run the graph, with what its runtime needs to know
 * @property {string} name
 * @property {string[]} files of the runtime, that it loads
 * @property {string | null} [missing] what this device lacks for it
 *
 * @typedef {{ way: string, reason: string }} Rejection a way that was tried, and why it isn't used
 */

/** What runs the graph here gives other answers than the bundle's golden vectors. */
export class DisagreementError extends Error {
  name = "DisagreementError";

  /**
   * @param {string} message
   * @param {Rejection[]} [rejected] every way that was tried
   */
  constructor(message, rejected = []) {
    super(message);
    this.rejected = rejected;
  }
}

/**
 * Take the first way that opens and gives the golden answers; close nothing, for `attempt` does.
 *
 * @template {Way} W
 * @template Opened
 * @param {W[]} ways the fastest first
 * @param {(way: W) => Promise<Opened>} attempt open and check; throws DisagreementError when the answers are others
 * @returns {Promise<{ way: W, opened: Opened, rejected: Rejection[] }>}
 * @throws {DisagreementError} no way is right. When none even opens, what the first one threw
 * @throws {RuntimeFileError} of any way
 */
export async function chooseWay(ways, attempt) {
  const failures = [];
  const listRejected = () => failures.map(({ way, error }) => ({ way: way.name, reason: error.message }));
  for (const way of ways) {
    try {
      return { way, opened: await attempt(way), rejected: listRejected() };
    } catch (error) {
      if (error instanceof RuntimeFileError) throw error; // whoever serves these files has to know
      failures.push({ way, error });
      console.warn(`edgekit: ${way.name} is not used: ${error.message}`);
    }
  }
  if (!failures.some(({ error }) => error instanceof DisagreementError)) throw failures[0].error;
  const reasons = listRejected().map(({ way, reason }) => `${way}: ${reason}`).join("; ");
  const remedy = "Update the browser, or use another device.";
  throw new DisagreementError(`this device does not answer as the bundle's golden vectors say: ${reasons}. ${remedy}`, listRejected());
}

/** @param {import("./golden.js").Check[]} checks @returns {string} the outputs that are too far off, in words */
export const describeChecks = (checks) =>
  checks
    .filter((check) => !isWithin(check))
    .map(({ output, error, tolerance }) => `${output} is off by ${error.toPrecision(2)}, accepted ${tolerance}`)
    .join(", ");
