/**
 * A film becomes the canvas that the graph sees: "Letterbox" and "Resampling" of docs/canvas.md.
 *
 * @typedef {object} Film gray levels, larger is brighter
 * @property {Uint8Array} pixels row by row
 * @property {number} width
 * @property {number} height
 *
 * @typedef {object} Letterbox where a film lies on its canvas
 * @property {number} left first canvas column that the film covers
 * @property {number} top first canvas row
 * @property {number} width covered canvas pixels
 * @property {number} height
 */

/** Halves up, as docs/canvas.md rounds. */
const round = (value) => Math.floor(value + 0.5);

/** @returns {Letterbox} where a film of `width` x `height` lies on a canvas of `side` */
export function placeFilm(width, height, side) {
  const scale = side / Math.max(width, height);
  const covered = { width: Math.max(1, round(width * scale)), height: Math.max(1, round(height * scale)) };
  return { left: Math.floor((side - covered.width) / 2), top: Math.floor((side - covered.height) / 2), ...covered };
}

/**
 * @param {Film} film
 * @param {number} side S
 * @returns {{ canvas: Uint8Array, letterbox: Letterbox }} the canvas has S * S gray levels
 */
export function makeCanvas(film, side) {
  const letterbox = placeFilm(film.width, film.height, side);
  const { pixels } = resample(film, letterbox.width, letterbox.height);
  const canvas = new Uint8Array(side * side);
  for (let row = 0; row < letterbox.height; row++) {
    const line = pixels.subarray(row * letterbox.width, (row + 1) * letterbox.width);
    canvas.set(line, (letterbox.top + row) * side + letterbox.left);
  }
  return { canvas, letterbox };
}

/**
 * Resample by an antialiasing triangle filter, the rows first.
 *
 * @param {Film} film
 * @returns {Film} of `width` x `height`
 */
export function resample(film, width, height) {
  const across = weigh(film.width, width);
  const down = weigh(film.height, height);
  const narrow = new Float32Array(film.height * width);
  for (let row = 0; row < film.height; row++) {
    const start = row * film.width;
    for (let i = 0; i < width; i++) {
      let sum = 0;
      const [first, offset] = [start + across.firsts[i], i * across.stride];
      for (let k = 0; k < across.counts[i]; k++) sum += across.weights[offset + k] * film.pixels[first + k];
      narrow[row * width + i] = sum;
    }
  }
  const pixels = new Uint8Array(height * width);
  const sums = new Float32Array(width);
  for (let i = 0; i < height; i++) {
    sums.fill(0);
    for (let k = 0; k < down.counts[i]; k++) {
      const weight = down.weights[i * down.stride + k];
      const start = (down.firsts[i] + k) * width;
      for (let column = 0; column < width; column++) sums[column] += weight * narrow[start + column];
    }
    for (let column = 0; column < width; column++) pixels[i * width + column] = round(Math.min(255, sums[column]));
  }
  return { pixels, width, height };
}

/** Which input samples make each of `m` outputs out of `n`, and with what weights. */
function weigh(n, m) {
  const widen = Math.max(n / m, 1);
  const stride = Math.ceil(2 * widen) + 2;
  const firsts = new Int32Array(m);
  const counts = new Int32Array(m);
  const weights = new Float32Array(m * stride);
  for (let i = 0; i < m; i++) {
    const centre = ((i + 0.5) * n) / m;
    const first = Math.max(0, Math.floor(centre - widen));
    const last = Math.min(n - 1, Math.ceil(centre + widen));
    let total = 0;
    let count = 0;
    for (let j = first; j <= last; j++) {
      const weight = Math.max(0, 1 - Math.abs(j + 0.5 - centre) / widen);
      if (weight === 0) continue; // only at either end
      if (count === 0) firsts[i] = j;
      weights[i * stride + count++] = weight;
      total += weight;
    }
    counts[i] = count;
    for (let k = 0; k < count; k++) weights[i * stride + k] /= total;
  }
  return { firsts, counts, weights, stride };
}
