/**
 * A plane seen in perspective, and the way back to a rectangle: edgekit's docs/straightening.md, 3 and 4.
 *
 * Points are [x, y] in pixels, the origin at the outer corner of the top-left pixel. Corners go round: top-left, top-right, bottom-right,
 * bottom-left. A homography is 9 numbers, row by row, the last one 1.
 *
 * @typedef {[number, number]} Point
 */

/** Focal length that is taken for granted, relative to the long side of the picture: a main camera of 26 mm equivalent, 4 : 3. */
const FOCAL = 0.75;

/** The perspective map of the rectangle 0, 0, width, height onto four corners (Heckbert 1989, 2.2.3). @returns {number[]} */
export function fitRectangle(width, height, corners) {
  const [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = corners;
  const [dx1, dx2, dx3] = [x1 - x2, x3 - x2, x0 - x1 + x2 - x3];
  const [dy1, dy2, dy3] = [y1 - y2, y3 - y2, y0 - y1 + y2 - y3];
  const area = dx1 * dy2 - dx2 * dy1;
  const g = (dx3 * dy2 - dx2 * dy3) / area;
  const h = (dx1 * dy3 - dx3 * dy1) / area;
  const unit = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, 1];
  return unit.map((value, index) => (index % 3 === 0 ? value / width : index % 3 === 1 ? value / height : value));
}

/** @returns {Point} */
export function project(matrix, [x, y]) {
  const [a, b, c, d, e, f, g, h, i] = matrix;
  const w = g * x + h * y + i;
  return [(a * x + b * y + c) / w, (d * x + e * y + f) / w];
}

/** @returns {boolean} whether the corners go round a convex quadrilateral clockwise, as seen */
export function isConvex(corners) {
  return corners.every((corner, n) => {
    const [next, after] = [corners[(n + 1) % 4], corners[(n + 2) % 4]];
    return (next[0] - corner[0]) * (after[1] - next[1]) - (next[1] - corner[1]) * (after[0] - next[0]) > 0;
  });
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/**
 * Width and height of the straightened film: as large as its largest side appears, its aspect from the perspective of a phone's camera.
 *
 * The columns of the homography are the rectangle's axes as the camera sees them (Zhang and He 2007, eq. 11, with a known focal length).
 */
export function chooseSize(corners, picture) {
  const matrix = fitRectangle(1, 1, corners);
  const focal = FOCAL * Math.max(picture.width, picture.height);
  const [cx, cy] = [picture.width / 2, picture.height / 2];
  const length = (n) => {
    const [x, y, w] = [matrix[n], matrix[n + 3], matrix[n + 6]];
    return Math.hypot((x - cx * w) / focal, (y - cy * w) / focal, w);
  };
  const aspect = length(0) / length(1);
  const across = Math.max(distance(corners[0], corners[1]), distance(corners[3], corners[2]));
  const down = Math.max(distance(corners[0], corners[3]), distance(corners[1], corners[2]));
  const width = Math.max(across, down * aspect);
  return { width: Math.max(1, Math.round(width)), height: Math.max(1, Math.round(width / aspect)) };
}

/**
 * Warp what lies between four corners to a rectangle: linear interpolation between pixel centres; where the picture is finer than the
 * result, the mean of as many samples a side as it takes to leave none out. What lies outside gets the value of the border.
 *
 * @param {import("./canvas.js").Film} film
 * @param {Point[]} corners
 * @param {{ width: number, height: number }} size of the result
 * @returns {import("./canvas.js").Film}
 */
export function straighten(film, corners, { width, height }) {
  const [a, b, c, d, e, f, g, h, i] = fitRectangle(width, height, corners);
  const longest = (m, n, o, p) => Math.max(distance(corners[m], corners[n]), distance(corners[o], corners[p]));
  const across = Math.max(1, Math.ceil(longest(0, 1, 3, 2) / width - 0.01));
  const down = Math.max(1, Math.ceil(longest(0, 3, 1, 2) / height - 0.01));
  const { pixels: from, width: columns, height: rows } = film;
  const pixels = new Uint8Array(width * height);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to++) {
      let total = 0;
      for (let m = 0; m < down; m++) {
        const y = row + (m + 0.5) / down;
        for (let n = 0; n < across; n++) {
          const x = column + (n + 0.5) / across;
          const w = g * x + h * y + i;
          const u = Math.min(columns - 1, Math.max(0, (a * x + b * y + c) / w - 0.5));
          const v = Math.min(rows - 1, Math.max(0, (d * x + e * y + f) / w - 0.5));
          const [left, top] = [Math.floor(u), Math.floor(v)];
          const right = Math.min(columns - 1, left + 1);
          const [above, below] = [top * columns, Math.min(rows - 1, top + 1) * columns];
          const [p, q] = [u - left, v - top];
          const high = from[above + left] + p * (from[above + right] - from[above + left]);
          const low = from[below + left] + p * (from[below + right] - from[below + left]);
          total += high + q * (low - high);
        }
      }
      pixels[to] = Math.floor(total / (across * down) + 0.5);
    }
  }
  return { pixels, width, height };
}

/** Turn a film a quarter clockwise. @returns {import("./canvas.js").Film} */
export function turn({ pixels, width, height }) {
  const turned = new Uint8Array(pixels.length);
  for (let row = 0, from = 0; row < height; row++) {
    for (let column = 0; column < width; column++) turned[column * height + height - 1 - row] = pixels[from++];
  }
  return { pixels: turned, width: height, height: width };
}
