/** Where the film is in a photo: the darkroom has the pixels, the reader the network that finds it. */
import { isConvex } from "./perspective.js";

/** Confidence below which nothing is suggested. */
const LEAST_CONFIDENCE = 0.3;
/** How far outside of the photo a corner may lie, a share of the photo's width or height. */
const OUTSIDE = 0.05;

/**
 * @param {import("./editor.js").Photo} photo
 * @param {number} side of the canvas that the network takes
 * @param {import("./workers.js").Helper} darkroom
 * @param {import("./workers.js").Helper} reader with its bundle open
 * @returns {Promise<import("./perspective.js").Point[] | null>} pixels of the photo; null when nothing looks like a film
 */
export async function suggestCorners({ id, width, height }, side, darkroom, reader) {
  const { canvas, letterbox } = await darkroom.call("survey", { id, side });
  const { found } = await reader.call("findFilm", { canvas }, [canvas.buffer]);
  if (!found || !(found.confidence >= LEAST_CONFIDENCE)) return null;
  const corners = found.corners.map(([x, y]) => [
    ((x - letterbox.left) * width) / letterbox.width,
    ((y - letterbox.top) * height) / letterbox.height,
  ]);
  const isNear = ([x, y]) => Math.abs(x / width - 0.5) <= 0.5 + OUTSIDE && Math.abs(y / height - 0.5) <= 0.5 + OUTSIDE;
  if (!corners.every(isNear) || !isConvex(corners)) return null;
  const inside = corners.map(([x, y]) => [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))]);
  return isConvex(inside) ? inside : null;
}
