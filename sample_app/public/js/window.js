/** Values become gray levels through the percentile window of docs/canvas.md. */

/**
 * Map values to 0..1 between the 0.5th and the 99.5th percentile, nearest rank.
 *
 * @param {Float64Array} values of each stored pattern
 * @param {Float64Array | Uint32Array} counts pixels of each pattern; 0 for padding
 * @returns {Float64Array}
 */
export function windowPercentiles(values, counts) {
  const order = Array.from(values.keys())
    .filter((pattern) => counts[pattern] > 0)
    .sort((a, b) => values[a] - values[b]);
  const total = order.reduce((sum, pattern) => sum + counts[pattern], 0);
  const find = (share) => {
    let reached = 0;
    for (const pattern of order) {
      reached += counts[pattern];
      if (1000 * reached >= share * total) return values[pattern];
    }
    return 0; // nothing but padding
  };
  const low = find(5);
  const range = find(995) - low;
  return values.map((value) => clip((value - low) / (range === 0 ? 1 : range)));
}

export const clip = (value) => Math.min(1, Math.max(0, value));

/** @returns {number} 0..1 as a byte, halves up */
export const toByte = (value) => Math.floor(255 * value + 0.5);

/** @returns {number} the luminance of a colour (ITU-R 601), 0..255 */
export const toLuminance = (red, green, blue) => (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;

/** @returns {boolean} whether a colour is more than a gray that was rounded */
export const isTinted = (red, green, blue) => Math.abs(red - green) + Math.abs(blue - green) > 6;

/** @returns {boolean} whether so many tinted pixels of all make a picture in colour */
export const isColoured = (tinted, all) => tinted > 0.001 * all;
