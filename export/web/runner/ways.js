/**
 * The ways in which a device can run a graph: the fastest that gives the golden answers is taken.
 *
 * @module
 */
import { isWithin } from "./golden.js";

/**
 * @typedef {{ name: string }} Way a way to run the graph, with what it takes to do so
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
 */
export async function chooseWay(ways, attempt) {
  const failures = [];
  const listRejected = () => failures.map(({ way, error }) => ({ way: way.name, reason: error.message }));
  for (const way of ways) {
    try {
      return { way, opened: await attempt(way), rejected: listRejected() };
    } catch (error) {
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
