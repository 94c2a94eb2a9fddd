/** What is sketched in a slot without a film. */

/** Of tasks by name and view: the body, and what is looked for on it; lines in a field of 90 x 120. */
const SKETCHES = {
  "pedicle-screws": {
    ap: [
      "M33 12h24v14H33zM33 31h24v14H33zM33 50h24v14H33zM33 69h24v14H33zM33 88h24v14H33z",
      "M30 26v58M60 26v58M30 34l8 4M60 34l-8 4M30 54l8 4M60 54l-8 4M30 74l8 4M60 74l-8 4",
    ],
    lateral: [
      "M20 14l22-3 2 14-22 3zM22 33l22-2 1 14-22 2zM23 52h22v14H23zM22 70l22 1-1 14-22-1zM20 89l22 3-2 14-22-3z",
      "M66 34q3 24-1 46M66 38l-30 2M67 58H36M65 77l-30-1",
    ],
  },
};

/** Of any other: a film, and that it can be added. */
const FILM = ["M18 14h54v82H18z", "M45 41v28M31 55h28"];

/**
 * @param {SVGElement} sketch with two paths
 * @param {string} task its name
 * @param {string} view
 */
export function drawSketch(sketch, task, view) {
  const lines = SKETCHES[task]?.[view] ?? FILM;
  sketch.querySelectorAll("path").forEach((path, n) => path.setAttribute("d", lines[n]));
}
