/** What can be wrong with what somebody gives the app; words for people are in words.js. */

/** A film with more pixels is refused before memory is spent on it. */
const MAX_PIXELS = 80e6;

export class Problem extends Error {
  name = "Problem";

  /**
   * @param {string} code a key of PROBLEMS in words.js; of a film a reason of docs/canvas.md
   * @param {object} [details] what the words mention: `element` by name and tag, `found` in it
   */
  constructor(code, details = {}) {
    super(code);
    this.code = code;
    this.details = details;
  }
}

/**
 * @param {{ width: number, height: number }} size pixels
 * @throws {Problem} large
 */
export function checkSize({ width, height }) {
  if (width * height > MAX_PIXELS) throw new Problem("large", { found: `it has ${width} x ${height} pixels, expected at most ${MAX_PIXELS / 1e6} million` });
}
