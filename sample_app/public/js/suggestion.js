/** Where the film is in a photo: the darkroom has the pixels, the reader the network that finds it. */

/**
 * @param {number} id of the picture in the darkroom
 * @param {number} side of the canvas that the network takes
 * @param {import("./workers.js").Helper} darkroom
 * @param {import("./workers.js").Helper} reader with its bundle open
 * @returns {Promise<import("./perspective.js").Point[] | null>} pixels of the picture; null when nothing looks like a film
 */
export async function suggestCorners(id, side, darkroom, reader) {
  const { canvas } = await darkroom.call("survey", { id, side });
  const { found } = await reader.call("findFilm", { canvas }, [canvas.buffer]);
  const { corners } = await darkroom.call("suggest", { id, side, found });
  return corners;
}
