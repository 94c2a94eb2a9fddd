/** Whether anything can be seen: "Contrast" of docs/canvas.md. */
import { Problem } from "./problems.js";

/** Gray levels between the two percentiles of a film on which something can be seen. */
const LEAST_CONTRAST = 12;

/**
 * @param {Uint8Array} pixels of the whole film
 * @throws {Problem} blank
 */
export function checkContrast(pixels) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < pixels.length; i++) counts[pixels[i]]++;
  const find = (permille) => {
    let reached = 0;
    return counts.findIndex((count) => 1000 * (reached += count) >= permille * pixels.length);
  };
  if (find(995) - find(5) < LEAST_CONTRAST) throw new Problem("blank");
}
