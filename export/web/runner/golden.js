/**
 * The bundle's golden vectors: simulated canvases, the outputs expected of them, and how far this device's own are from those. No DOM and no
 * picture decoder of the browser: some change what a page reads of a picture, so that pages can't recognize their visitor.
 *
 * @module
 */

/**
 * @typedef {{ canvases: Object<string, Uint8Array>, outputs: Object<string, Array> }} Case canvases by view, nested lists by output
 *
 * @typedef {object} Output one of `tensors.outputs` of the manifest
 * @property {number[]} shape
 * @property {number | null} tolerance largest difference accepted; null: it is not compared
 * @property {boolean} of_found whether a film's row counts only where something was to be found on the film
 *
 * @typedef {object} Check how far one output is from the golden vectors, and how far it may be
 * @property {string} output
 * @property {number} error
 * @property {number} tolerance
 */

/**
 * @param {(name: string) => Promise<Uint8Array>} read gives a file of the bundle, its hash checked
 * @returns {Promise<Case[]>}
 */
export async function readGolden(read) {
  const { cases } = JSON.parse(new TextDecoder().decode(await read("golden/golden.json")));
  const readCanvas = async ([view, file]) => [view, await decodeGray(await read(`golden/${file}`))];
  const readCase = async ({ films, outputs }) => ({
    canvases: Object.fromEntries(await Promise.all(Object.entries(films).map(readCanvas))),
    outputs,
  });
  return Promise.all(cases.map(readCase));
}

/**
 * Answer every case, and measure how far the answers are from the expected ones.
 *
 * @param {Case[]} cases
 * @param {(canvases: Object<string, Uint8Array>) => Promise<{ outputs: Object<string, ArrayLike<number>> }>} infer
 * @param {Object<string, Output>} described the graph's outputs by name
 * @returns {Promise<{ passed: boolean, checks: Check[] }>} a check for each output that is compared
 */
export async function compareAnswers(cases, infer, described) {
  const compared = Object.entries(described).filter(([, { tolerance }]) => tolerance !== null);
  const checks = compared.map(([output, { tolerance }]) => ({ output, error: 0, tolerance }));
  for (const { canvases, outputs: expected } of cases) {
    const { outputs } = await infer(canvases);
    for (const check of checks) {
      const { shape, of_found: isOfFound } = described[check.output];
      const row = shape.slice(1).reduce((product, side) => product * side, 1);
      [expected[check.output]].flat(Infinity).forEach((value, index) => {
        const counts = !isOfFound || expected.found[Math.floor(index / row)] > 0; // where nothing is, its row is arbitrary
        const error = Math.abs(outputs[check.output][index] - value);
        if (counts && !(error <= check.error)) check.error = Number.isNaN(error) ? Infinity : error;
      });
    }
  }
  return { passed: checks.every(isWithin), checks };
}

/** @param {Check} check */
export const isWithin = ({ error, tolerance }) => error <= tolerance;

/**
 * Gray levels of an 8-bit grayscale PNG without interlacing, as they are stored (PNG specification, sections 7 and 9).
 *
 * @param {Uint8Array} png
 * @returns {Promise<Uint8Array>} row by row
 */
export async function decodeGray(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  if (png[24] !== 8 || png[25] !== 0 || png[28] !== 0) throw new Error("a golden canvas is not an 8-bit grayscale PNG");
  const data = [];
  for (let at = 8; at < png.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...png.subarray(at + 4, at + 8));
    if (type === "IDAT") data.push(png.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const inflated = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(inflated).arrayBuffer());
  const pixels = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (width + 1)];
    for (let x = 0; x < width; x++) {
      const left = x ? pixels[y * width + x - 1] : 0;
      const above = y ? pixels[(y - 1) * width + x] : 0;
      const corner = x && y ? pixels[(y - 1) * width + x - 1] : 0;
      const predicted = [0, left, above, (left + above) >> 1, filter === 4 ? predictPaeth(left, above, corner) : 0][filter];
      pixels[y * width + x] = lines[y * (width + 1) + 1 + x] + predicted;
    }
  }
  return pixels;
}

/** Of left, above and above left the one nearest to their sum left + above - corner; ties go in this order. */
function predictPaeth(left, above, corner) {
  const [toLeft, toAbove, toCorner] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
