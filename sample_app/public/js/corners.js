/** From what the network found on a photo's canvas to corners that are worth suggesting. */
import { placeFilm, resample } from "./canvas.js";
import { isConvex } from "./perspective.js";

/** Confidence below which nothing is suggested. */
const LEAST_CONFIDENCE = 0.3;
/** How far outside of the picture a corner may lie, a share of the picture's width or height. */
const OUTSIDE = 0.05;
/** Long side of the copy on which edges are moved, pixels. */
const LONG = 400;
/** A step of this many gray levels is all the evidence that a place can give: a weak edge all along beats a strong one here and there. */
const SHARP = 6;
/** How far the ends of an edge are moved to refine it, pixels, and what a move has to gain. */
const [REACH, LOYAL] = [5, 0.03];

/**
 * @typedef {import("./perspective.js").Point} Point
 */

/**
 * The corners that the network found, on the picture.
 *
 * @param {import("../runner/corners.js").Found | null} found on the picture's canvas
 * @param {import("./canvas.js").Film} picture
 * @param {number} side of the canvas
 * @returns {Point[] | null} pixels of the picture; null when that is hardly a film's outline
 */
export function placeCorners(found, picture, side) {
  if (!found || !(found.confidence >= LEAST_CONFIDENCE)) return null;
  const { width, height } = picture;
  const letterbox = placeFilm(width, height, side);
  const corners = found.corners.map(([x, y]) => [
    ((x - letterbox.left) * width) / letterbox.width,
    ((y - letterbox.top) * height) / letterbox.height,
  ]);
  const isNear = ([x, y]) => Math.abs(x / width - 0.5) <= 0.5 + OUTSIDE && Math.abs(y / height - 0.5) <= 0.5 + OUTSIDE;
  if (!corners.every(isNear) || !isConvex(corners)) return null;
  const inside = keepInside(corners, picture);
  return isConvex(inside) ? inside : null;
}

/**
 * Move each edge, end by end, to where its step is sharpest: the network's cells are coarse. The step keeps its sign, which is that of
 * most of the edge as it was found.
 *
 * @param {import("./canvas.js").Film} picture
 * @param {Point[]} corners pixels of the picture
 * @returns {Point[]}
 */
export function refineCorners(picture, corners) {
  const shrink = Math.min(1, LONG / Math.max(picture.width, picture.height));
  const [width, height] = [Math.max(8, Math.round(picture.width * shrink)), Math.max(8, Math.round(picture.height * shrink))];
  const small = resample(picture, width, height);
  const [across, down] = [picture.width / width, picture.height / height];
  const found = corners.map(([x, y]) => [x / across, y / down]);
  const edges = found.map((from, n) => moveEdge(small, from, found[(n + 1) % 4]));
  const refined = found.map((_, n) => meet(edges[(n + 3) % 4], edges[n])).map(([x, y]) => [x * across, y * down]);
  const inside = keepInside(refined, picture);
  return isConvex(inside) ? inside : corners;
}

function moveEdge({ pixels, width, height }, from, to) {
  const look = (x, y) => pixels[Math.min(height - 1, Math.max(0, Math.floor(y))) * width + Math.min(width - 1, Math.max(0, Math.floor(x)))];
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const inward = [-(to[1] - from[1]) / length, (to[0] - from[0]) / length];
  const measure = (a, b, sign) => {
    let total = 0;
    for (let k = 0; k < length; k++) {
      const share = (k + 0.5) / length;
      const away = a + share * (b - a);
      const [x, y] = [from[0] + share * (to[0] - from[0]) + away * inward[0], from[1] + share * (to[1] - from[1]) + away * inward[1]];
      const step = look(x + 1.2 * inward[0], y + 1.2 * inward[1]) - look(x - 1.2 * inward[0], y - 1.2 * inward[1]);
      total += Math.min(1, Math.max(-1, (sign * step) / SHARP));
    }
    return total / length;
  };
  const sign = Math.sign(measure(0, 0, 1)) || 1;
  let best = measure(0, 0, sign) + LOYAL;
  let moved = [0, 0];
  for (let a = -REACH; a <= REACH; a++) {
    for (let b = -REACH; b <= REACH; b++) {
      const score = measure(a, b, sign);
      if (score > best) [best, moved] = [score, [a, b]];
    }
  }
  return { from: [from[0] + moved[0] * inward[0], from[1] + moved[0] * inward[1]], to: [to[0] + moved[1] * inward[0], to[1] + moved[1] * inward[1]] };
}

/** Where two edges, made longer, meet. */
function meet(one, other) {
  const [a, b] = [one.to[0] - one.from[0], one.to[1] - one.from[1]];
  const [c, d] = [other.to[0] - other.from[0], other.to[1] - other.from[1]];
  const share = ((other.from[0] - one.from[0]) * d - (other.from[1] - one.from[1]) * c) / (a * d - b * c);
  return [one.from[0] + share * a, one.from[1] + share * b];
}

const keepInside = (corners, { width, height }) => corners.map(([x, y]) => [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))]);
