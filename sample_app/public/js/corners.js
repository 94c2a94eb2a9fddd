/**
 * Finds the film in a photo of a screen.
 *
 * Everything on a screen is parallel to its edges, so first the two directions are found in which most sharp lines run. Then, for each side,
 * every line of its direction collects the evidence that a film ends there: brighter inside, dark outside. The best of each side are combined.
 */
import { resample } from "./canvas.js";
import { fitRectangle, isConvex } from "./perspective.js";

/** Long side of the copy that is searched, pixels. */
const LONG = 400;
/** Steepest slope of an edge against its axis. */
const SLOPE = 0.36;
/** A step of this many gray levels is all the evidence that a place can give: a weak edge all along beats a strong one here and there. */
const ENOUGH = 2;
/** The same for the lines that tell the directions. */
const SHARP = 6;
/** Evidence at a place that speaks neither for nor against an edge. */
const NEUTRAL = 0.2;
/** Pixels outside of an edge, next to it inside and farther in that are compared. */
const [OUT, NEAR, FAR] = [3, 2, 8];
/** What counts as dark outside: this share of the photo's range above the darkest within AROUND (a share of its long side). */
const [DARK, AROUND] = [0.15, 0.2];
/** What a step counts whose outside is not dark. */
const FAINT = 0.3;
/** What a sharp line counts above or below a film, which often touches the frame of its window. */
const LINE = 0.6;
/** How far beyond a corner, in shares of its side, an edge must have ended, and how much it counts when it has not. */
const [BEYOND, ENDS] = [0.15, 0.6];
/** A line above or below counts less when another one that is as convincing as this runs within this share of the height inside. */
const [OUTER, CONVINCING, BAND] = [0.7, 0.3, 0.15];
/** How much directions count against each other that a rectangle before a phone's camera can't have. */
const SKEW = 3;
/** Lines of each side that are combined. */
const KEPT = 24;
/** How much a large film counts, and the least area of one as a share of the photo. */
const [SIZE, LEAST_AREA] = [0.8, 0.1];
/** Score below which nothing is suggested. */
const LEAST_SCORE = 1.2;
/** How far the ends of an edge are moved to refine it, pixels, and what a move has to gain. */
const [REACH, LOYAL] = [5, 0.03];
/** Focal length of a phone's main camera relative to the long side of its picture. */
const FOCAL = 26 / 36;

/**
 * @param {import("./canvas.js").Film} picture
 * @returns {import("./perspective.js").Point[] | null} top-left, top-right, bottom-right, bottom-left in pixels of the picture
 */
export function suggestCorners(picture) {
  const small = shrink(picture, LONG);
  const found = combine(findSides(small), small);
  const scale = picture.width / small.width;
  return found && refine(found, small).map(([x, y]) => [x * scale, y * scale]);
}

function shrink(picture, longest) {
  const scale = Math.min(1, longest / Math.max(picture.width, picture.height));
  return resample(picture, Math.max(8, Math.round(picture.width * scale)), Math.max(8, Math.round(picture.height * scale)));
}

/**
 * The lines of each side. A line of the left or right side is x = at + slope * y, one of the top or bottom y = at + slope * x; `kinds` are its
 * evidence of each kind, added up along it.
 */
function findSides(picture) {
  const black = measureBlack(picture);
  const range = measureRange(picture.pixels);
  const flipped = transpose(picture);
  const turned = transpose({ ...picture, pixels: black });
  const [upright, level] = findDirections(picture, flipped);
  const collect = (from, dark, direction, isMirrored, takesLines) =>
    collectLines(measureEvidence(from, dark, range, isMirrored, takesLines), from, direction, isMirrored);
  return {
    left: collect(picture, black, upright, false, false),
    right: collect(picture, black, upright, true, false),
    top: collect(flipped, turned.pixels, level, false, true),
    bottom: collect(flipped, turned.pixels, level, true, true),
  };
}

/** How the screen's upright and level lines lean. */
function findDirections(picture, flipped) {
  const upright = listDirections(picture);
  const level = listDirections(flipped);
  let best = -Infinity;
  let found = null;
  for (const u of upright) {
    for (const l of level) {
      const [left, right] = [0.2, 0.8].map((share) => makeLine(u, share * picture.width, picture));
      const [top, bottom] = [0.2, 0.8].map((share) => makeLine(l, share * picture.height, flipped));
      const corners = [cross(left, top), cross(right, top), cross(right, bottom), cross(left, bottom)];
      const score = u.score / upright[0].score + l.score / level[0].score - SKEW * skew(corners, picture);
      if (score > best) [best, found] = [score, [u, l]];
    }
  }
  return found;
}

/** The line of a direction through a place on the middle row. */
function makeLine({ lean, turn }, middle, { width, height }) {
  const slope = (lean + turn * (middle - width / 2)) / height;
  return { at: middle - (slope * height) / 2, slope };
}

/** The most convincing directions of upright lines: `lean` pixels over the height in the middle, changing by `turn` with each pixel across. */
function listDirections({ pixels, width, height }) {
  const slopes = 2 * Math.floor((SLOPE * height) / 2);
  const across = 2 * slopes + 1;
  const steps = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 2; x < width - 1; x++) {
      const i = y * width + x;
      steps[i] = Math.max(-1, Math.min(1, (pixels[i] + pixels[i + 1] - pixels[i - 1] - pixels[i - 2]) / (2 * SHARP)));
    }
  }
  const strength = new Float32Array(width * across);
  for (let middle = 2; middle < width - 2; middle++) {
    for (let lean = -slopes; lean <= slopes; lean += 2) {
      const slope = lean / height;
      const at = middle - lean / 2 + slope / 2 + 0.5;
      let [up, down, best] = [0, 0, 0];
      for (let y = 0; y < height; y++) {
        const x = (at + slope * y) | 0;
        const step = x >= 0 && x < width ? steps[y * width + x] : 0;
        up += step - NEUTRAL;
        if (up < 0) up = 0;
        else if (up > best) best = up;
        down -= step + NEUTRAL;
        if (down < 0) down = 0;
        else if (down > best) best = down;
      }
      strength[middle * across + lean + slopes] = (best / height) ** 2;
    }
  }
  const found = [];
  for (let lean = -slopes; lean <= slopes; lean += 2) {
    for (let change = -slopes; change <= slopes; change += 4) {
      let score = 0;
      for (let middle = 2; middle < width - 2; middle++) {
        const n = 2 * Math.round((lean + change * (middle / width - 0.5)) / 2) + slopes;
        if (n >= 0 && n < across) score += strength[middle * across + n];
      }
      found.push({ lean, turn: change / width, change, score });
    }
  }
  found.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const each of found) {
    if (kept.some((other) => Math.abs(other.lean - each.lean) < 5 && Math.abs(other.change - each.change) < 9)) continue;
    kept.push(each);
    if (kept.length === 20) break;
  }
  return kept;
}

/** The most convincing lines of one direction and side. */
function collectLines(evidence, picture, direction, isMirrored) {
  const { width, height } = picture;
  const lines = [];
  for (let middle = 1; middle < width; middle++) {
    const { at, slope } = makeLine(direction, middle, picture);
    let best = 0;
    const kinds = evidence.map((values) => {
      const sums = new Float32Array(height + 1);
      let run = 0;
      for (let y = 0; y < height; y++) {
        const place = at + slope * (y + 0.5);
        const x = Math.round(isMirrored ? width - place : place);
        const value = x >= 0 && x < width ? values[y * width + x] : 0;
        sums[y + 1] = sums[y] + value;
        run = Math.max(0, run + value - NEUTRAL);
        best = Math.max(best, run);
      }
      return sums;
    });
    lines.push({ at, slope, kinds, score: best, middle });
  }
  return lines
    .filter(({ score }, n) => score > 0.05 * height && [-2, -1, 1, 2].every((k) => score >= (lines[n + k]?.score ?? 0)))
    .sort((a, b) => b.score - a.score)
    .slice(0, KEPT);
}

/**
 * What speaks for an edge of a film between each pixel and the one on its left, -1 to 1, the film on the right: both the next pixels and those
 * farther in are brighter than the ones outside, and these are about as dark as it gets around.
 */
function measureEvidence({ pixels, width, height }, black, range, isMirrored, takesLines) {
  const edge = new Float32Array(width * height);
  const lit = new Float32Array(takesLines ? width * height : 0);
  const ridge = new Float32Array(takesLines ? width * height : 0);
  const sums = new Float32Array(width + 1);
  const place = isMirrored ? (x) => width - 1 - x : (x) => x;
  const mean = (from, to) => (sums[to] - sums[from]) / (to - from);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    for (let x = 0; x < width; x++) sums[x + 1] = sums[x] + pixels[row + place(x)];
    for (let x = 5; x < width - FAR; x++) {
      const outside = mean(x - OUT, x);
      const inside = Math.min(mean(x, x + NEAR), mean(x + NEAR, x + FAR));
      const step = Math.max(-1, Math.min(1, (inside - outside) / ENOUGH));
      const dark = Math.max(0, Math.min(1, 1.6 - (outside - black[row + place(x)]) / (DARK * range)));
      edge[row + x] = step > 0 ? step * (FAINT + (1 - FAINT) * dark) : step;
      if (takesLines) {
        lit[row + x] = LINE * Math.max(-1, Math.min(1, (mean(x - 2, x) - mean(x, x + 2)) / 10));
        ridge[row + x] = LINE * Math.max(-1, Math.min(1, (mean(x - 1, x + 1) - Math.max(mean(x + 2, x + 5), mean(x - 5, x - 2))) / 6));
      }
    }
  }
  return takesLines ? [edge, lit, ridge] : [edge];
}

/** How dark it gets around each pixel. */
function measureBlack({ pixels, width, height }) {
  const reach = Math.round(AROUND * Math.max(width, height));
  const smooth = new Float32Array(pixels.length).fill(255);
  for (let y = 2; y < height - 2; y++) {
    for (let x = 2; x < width - 2; x++) {
      let sum = 0;
      for (let k = -2; k <= 2; k++) for (let m = -2; m <= 2; m++) sum += pixels[(y + k) * width + x + m];
      smooth[y * width + x] = sum / 25;
    }
  }
  const pass = (values, count, lines, at) => {
    const lowest = new Float32Array(values.length);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < count; i++) {
        let least = Infinity;
        for (let k = Math.max(0, i - reach); k <= Math.min(count - 1, i + reach); k += 3) least = Math.min(least, values[at(line, k)]);
        lowest[at(line, i)] = least;
      }
    }
    return lowest;
  };
  return pass(
    pass(smooth, width, height, (y, x) => y * width + x),
    height,
    width,
    (x, y) => y * width + x,
  );
}

function measureRange(pixels) {
  const sorted = Uint8Array.from(pixels).sort();
  return Math.max(20, sorted[Math.floor(0.95 * sorted.length)] - sorted[Math.floor(0.05 * sorted.length)]);
}

function transpose({ pixels, width, height }) {
  const turned = new pixels.constructor(pixels.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) turned[x * height + y] = pixels[y * width + x];
  return { pixels: turned, width: height, height: width };
}

/** Where an upright line x = a + s y meets a level one y = b + t x. */
function cross(upright, level) {
  const x = (upright.at + upright.slope * level.at) / (1 - upright.slope * level.slope);
  return [x, level.at + level.slope * x];
}

function combine({ left, right, top, bottom }, picture) {
  const { width, height } = picture;
  let best = LEAST_SCORE;
  let found = null;
  const isInside = ([x, y]) => x > -0.02 * width && x < 1.02 * width && y > -0.02 * height && y < 1.02 * height;
  for (const t of top) {
    for (const l of left) {
      const a = cross(l, t);
      if (!isInside(a)) continue;
      for (const r of right) {
        const b = cross(r, t);
        if (!isInside(b) || b[0] - a[0] < 0.15 * width) continue;
        const above = judge(t, a[0], b[0]);
        if (above < 0) continue;
        for (const m of bottom) {
          const [c, d] = [cross(r, m), cross(l, m)];
          if (!isInside(c) || !isInside(d) || d[1] - a[1] < 0.15 * height || c[1] - b[1] < 0.15 * height) continue;
          const corners = [a, b, c, d];
          const share = area(corners) / (width * height);
          if (share < LEAST_AREA) continue;
          const edges = [above, judge(m, d[0], c[0]), judge(l, a[1], d[1]), judge(r, b[1], c[1])];
          const score = edges.reduce((sum, edge) => sum + edge, 0) + Math.min(...edges) + SIZE * Math.sqrt(share);
          if (score <= best || !isConvex(corners)) continue;
          const tall = (d[1] - a[1] + c[1] - b[1]) / 2;
          const fair = score - OUTER * (hasInner(top, t, 1, tall, a[0], b[0]) + hasInner(bottom, m, -1, tall, d[0], c[0]));
          if (fair > best) [best, found] = [fair, corners];
        }
      }
    }
  }
  return found;
}

/**
 * Move each edge, end by end, to where its step is sharpest: directions are found in coarse strides. The step keeps its sign, which is that of
 * most of the edge as it was found.
 */
function refine(corners, { pixels, width, height }) {
  const look = (x, y) => pixels[Math.min(height - 1, Math.max(0, Math.floor(y))) * width + Math.min(width - 1, Math.max(0, Math.floor(x)))];
  const edges = corners.map((from, n) => {
    const to = corners[(n + 1) % 4];
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
  });
  const refined = corners.map((_, n) => meet(edges[(n + 3) % 4], edges[n]));
  return isConvex(refined) ? refined : corners;
}

/** Where two edges, made longer, meet. */
function meet(one, other) {
  const [a, b] = [one.to[0] - one.from[0], one.to[1] - one.from[1]];
  const [c, d] = [other.to[0] - other.from[0], other.to[1] - other.from[1]];
  const share = ((other.from[0] - one.from[0]) * d - (other.from[1] - one.from[1]) * c) / (a * d - b * c);
  return [one.from[0] + share * a, one.from[1] + share * b];
}

/** Whether another convincing line runs a little way in from the top or bottom of a film: 1 or 0. Then this one is its window's frame. */
function hasInner(lines, outer, inwards, height, from, to) {
  const isInner = (line) => {
    const way = inwards * (line.middle - outer.middle);
    return way > 1.5 && way < BAND * height && judge(line, from, to) > CONVINCING;
  };
  return lines.some(isInner) ? 1 : 0;
}

/** The mean evidence between two places on a line, less that of what lies beyond, where the film must have ended. */
function judge({ kinds }, from, to) {
  const reach = BEYOND * (to - from);
  let best = -1;
  for (const sums of kinds) {
    const last = sums.length - 1;
    const at = (place) => sums[Math.min(last, Math.max(0, Math.round(place)))];
    const mean = (at(to) - at(from)) / Math.max(1, to - from);
    const beyond = Math.max(0, at(from) - at(from - reach)) + Math.max(0, at(to + reach) - at(to));
    best = Math.max(best, mean - (ENDS * beyond) / (2 * reach));
  }
  return best;
}

function area(corners) {
  return Math.abs(corners.reduce((sum, [x, y], n) => sum + x * corners[(n + 1) % 4][1] - corners[(n + 1) % 4][0] * y, 0)) / 2;
}

/** How far from a right angle the sides of the quadrilateral are as a phone's camera sees them: a cosine. */
function skew(corners, { width, height }) {
  const matrix = fitRectangle(1, 1, corners);
  const focal = FOCAL * Math.max(width, height);
  const axis = (n) => [(matrix[n] - (width / 2) * matrix[n + 6]) / focal, (matrix[n + 3] - (height / 2) * matrix[n + 6]) / focal, matrix[n + 6]];
  const [p, q] = [axis(0), axis(1)];
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  return Math.abs(dot(p, q)) / Math.sqrt(dot(p, p) * dot(q, q));
}
