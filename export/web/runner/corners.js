/**
 * Where the film is in a photo, from the answer of a bundle's corner finder: its last step, which the graph leaves to the device.
 *
 * The answer is four maps, one for each edge of the film: top, right, bottom, left. Each says how likely the edge runs through each cell of
 * the canvas. An edge is the straight line that collects most of its map; where two of them meet is a corner. docs/straightening.md of
 * edgekit specifies it. No DOM, nothing imported: `Pipeline.findFilm` of edgekit.js calls it.
 *
 * @module
 */

const EDGES = 4;
/** Slopes of an edge against its axis that are tried: the tangents -24 / 40 to 24 / 40. */
const SLOPES = Float64Array.from({ length: 49 }, (_, n) => (n - 24) / 40);
/** Cells on either side of a line that the next, finer one is fitted to. */
const BANDS = [2.5, 1.8, 1.8];

/**
 * @typedef {object} Found
 * @property {[number, number][]} corners top-left, top-right, bottom-right, bottom-left as x, y in pixels of the canvas, the origin at the
 *   outer corner of its top-left pixel; perhaps outside of it
 * @property {number} confidence 0 to 1: the share of its map that lies near the line, of the edge with the least
 *
 * @typedef {object} Line x = at + slope * y for an upright edge, y = at + slope * x for a level one: cells, y (x) counted from the middle
 * @property {number} at
 * @property {number} slope
 * @property {number} share of the map that lies near it
 */

/**
 * Find where the edges meet, and how sure that is.
 *
 * @param {Float32Array} edges the tensor `edges`: four square maps, row by row, each map's sum 1
 * @param {number} side of the canvas, pixels
 * @returns {Found}
 */
export function findCorners(edges, side) {
  const cells = Math.sqrt(edges.length / EDGES);
  if (!Number.isInteger(cells) || !cells) throw new TypeError("the edges must be four square maps");
  const lines = [0, 1, 2, 3].map((n) => fitLine(edges.subarray(n * cells ** 2, (n + 1) * cells ** 2), cells, n % 2 === 0));
  const [top, right, bottom, left] = lines;
  const middle = cells / 2 - 0.5;
  const meet = (upright, level) => {
    const x = (upright.at + upright.slope * (level.at - middle - level.slope * middle)) / (1 - upright.slope * level.slope);
    const y = level.at + level.slope * (x - middle);
    return [((x + 0.5) * side) / cells, ((y + 0.5) * side) / cells];
  };
  return {
    corners: [meet(left, top), meet(right, top), meet(right, bottom), meet(left, bottom)],
    confidence: Math.min(...lines.map(({ share }) => share)),
  };
}

/** The line of one map; a level edge's map is flipped, so that its line is upright too. @returns {Line} */
function fitLine(map, cells, isLevel) {
  const weights = new Float64Array(cells * cells);
  for (let row = 0, to = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) weights[to++] = map[isLevel ? column * cells + row : row * cells + column];
  }
  const middle = cells / 2 - 0.5;
  let { at, slope, share } = findBest(weights, cells);
  for (const band of BANDS) {
    let [total, across, down, squares, products] = [0, 0, 0, 0, 0];
    for (let row = 0; row < cells; row++) {
      const y = row - middle;
      const place = at + slope * y;
      let [near, moment] = [0, 0];
      for (let column = Math.max(0, Math.floor(place - band)); column <= Math.min(cells - 1, place + band); column++) {
        if (Math.abs(column - place) >= band) continue;
        near += weights[row * cells + column];
        moment += weights[row * cells + column] * column;
      }
      total += near;
      across += moment;
      down += near * y;
      squares += near * (y * y);
      products += moment * y;
    }
    share = total;
    const spread = total * squares - down ** 2;
    if (!(spread > 0)) break; // nothing near it, or in one row alone
    slope = (total * products - across * down) / spread;
    at = (across - slope * down) / total;
  }
  return { at, slope, share };
}

/** Of the lines through the middle of each column at each slope the one that collects most, between two cells by their shares. */
function findBest(weights, cells) {
  const width = cells + 4;
  const padded = new Float64Array(cells * width);
  for (let row = 0; row < cells; row++) padded.set(weights.subarray(row * cells, (row + 1) * cells), row * width + 2);
  const sums = new Float64Array(cells);
  let [at, slope, most] = [0, 0, -1];
  for (const tried of SLOPES) {
    sums.fill(0);
    for (let row = 0; row < cells; row++) {
      const shift = tried * (row - (cells / 2 - 0.5));
      const start = row * width + 2;
      for (let offset = 0; offset < cells; offset++) {
        const x = offset + shift;
        const low = Math.floor(x);
        const place = start + (low < -2 ? -2 : low > cells ? cells : low);
        const share = x - low;
        sums[offset] += padded[place] * (1 - share) + padded[place + 1] * share;
      }
    }
    for (let offset = 0; offset < cells; offset++) {
      // Of equal ones the leftmost, then the smallest slope.
      if (sums[offset] > most || (sums[offset] === most && offset < at)) [at, slope, most] = [offset, tried, sums[offset]];
    }
  }
  return { at, slope, share: 0 };
}
