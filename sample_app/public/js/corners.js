/** Where the film is in a photo: the darkroom has the pixels, the reader the network that finds it. */
import { isConvex } from "./perspective.js";

/** Confidence below which nothing is suggested. */
const LEAST_CONFIDENCE = 0.3;
/** How far outside of the photo a corner may lie, a share of the photo's width or height. */
const OUTSIDE = 0.05;
/** What the second look sees around the film that the first one found, a share of its longer side. */
const ROOM = 0.08;

/**
 * Look at the whole photo, then once more at what lies around the film: closer, and so more exactly.
 *
 * @param {import("./editor.js").Photo} photo
 * @param {number} side of the canvas that the network takes
 * @param {import("./workers.js").Helper} darkroom
 * @param {import("./workers.js").Helper} reader with its bundle open
 * @returns {Promise<import("./perspective.js").Point[] | null>} pixels of the photo; null when nothing looks like a film
 */
export async function suggestCorners({ id, width, height }, side, darkroom, reader) {
  const size = { width, height }; // of the photo as it lies now: it may be turned meanwhile
  const look = async (part) => {
    const { canvas, letterbox } = await darkroom.call("survey", { id, side, part });
    const { found } = await reader.call("findFilm", { canvas }, [canvas.buffer]);
    return found && place(found, part, letterbox, size);
  };
  const first = await look({ left: 0, top: 0, ...size });
  return first && ((await look(surround(first, size))) ?? first);
}

/** Corners on the canvas of a part of the photo, as pixels of the photo; null when they are none of a film. */
function place({ corners, confidence }, part, letterbox, { width, height }) {
  if (!(confidence >= LEAST_CONFIDENCE)) return null;
  const placed = corners.map(([x, y]) => [
    part.left + ((x - letterbox.left) * part.width) / letterbox.width,
    part.top + ((y - letterbox.top) * part.height) / letterbox.height,
  ]);
  const isNear = ([x, y]) => Math.abs(x / width - 0.5) <= 0.5 + OUTSIDE && Math.abs(y / height - 0.5) <= 0.5 + OUTSIDE;
  if (!placed.every(isNear) || !isConvex(placed)) return null;
  const inside = placed.map(([x, y]) => [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))]);
  return isConvex(inside) ? inside : null;
}

/** The part of a photo that a film and its surroundings take up, whole pixels. */
function surround(corners, { width, height }) {
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const [x0, y0, x1, y1] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  const room = ROOM * Math.max(x1 - x0, y1 - y0);
  const [left, top] = [Math.floor(Math.max(0, x0 - room)), Math.floor(Math.max(0, y0 - room))];
  const [right, bottom] = [Math.ceil(Math.min(width, x1 + room)), Math.ceil(Math.min(height, y1 + room))];
  return { left, top, width: right - left, height: bottom - top };
}
