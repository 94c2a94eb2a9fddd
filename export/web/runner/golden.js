/**
 * The bundle's golden vectors: simulated canvases, the outputs expected of them, and how far this device's own are from those. No DOM and no
 * picture decoder of the browser: some change what a page reads of a picture, so that pages can't recognize their visitor.
 *
 * @module
 */

/**
 * @typedef {object} Golden
 * @property {{ canvases: Object<string, Uint8Array>, outputs: Object<string, Array> }[]} cases canvases by view, nested lists by output
 * @property {Object<string, number>} tolerance largest difference accepted, by output
 *
 * @typedef {object} Check how far one output is from the golden vectors, and how far it may be
 * @property {string} output
 * @property {number} error
 * @property {number} tolerance
 */

/**
 * @param {(name: string) => Promise<Uint8Array>} read gives a file of the bundle, its hash checked
 * @returns {Promise<Golden>}
 */
export async function readGolden(read) {
  const { cases, tolerance } = JSON.parse(new TextDecoder().decode(await read("golden/golden.json")));
  const readCanvas = async ([view, file]) => [view, await decodeGray(await read(`golden/${file}`))];
  const readCase = async ({ films, outputs }) => ({
    canvases: Object.fromEntries(await Promise.all(Object.entries(films).map(readCanvas))),
    outputs,
  });
  return { cases: await Promise.all(cases.map(readCase)), tolerance };
}

/**
 * Answer every case, and measure how far the answers are from the expected ones.
 *
 * @param {Golden} golden
 * @param {(canvases: Object<string, Uint8Array>) => Promise<{ outputs: Object<string, ArrayLike<number>> }>} infer
 * @param {string[]} names the outputs that are compared
 * @param {number} boxThreshold without a construct the best cell is arbitrary, and so is its box: it counts from this score on
 * @returns {Promise<{ passed: boolean, checks: Check[] }>}
 */
export async function compareAnswers({ cases, tolerance }, infer, names, boxThreshold) {
  const errors = Object.fromEntries(names.map((name) => [name, 0]));
  for (const { canvases, outputs: expected } of cases) {
    const { outputs } = await infer(canvases);
    for (const name of names) {
      [expected[name]].flat(Infinity).forEach((value, index) => {
        const counts = name !== "boxes" || expected.box_scores[Math.floor(index / 4)] >= boxThreshold;
        const error = Math.abs(outputs[name][index] - value);
        if (counts && !(error <= errors[name])) errors[name] = Number.isNaN(error) ? Infinity : error;
      });
    }
  }
  const checks = names.map((output) => ({ output, error: errors[output], tolerance: tolerance[output] }));
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
