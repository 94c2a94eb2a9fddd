/** The four corners of a film in a photo: by touch, by mouse and by keyboard, with a magnifying glass. */
import { isConvex } from "./perspective.js";
import { enter, find, leave } from "./screens.js";

/** Margin around the photo on the stage, so that a corner at its edge can be taken, CSS pixels. */
const MARGIN = 22;
const GLASS = { radius: 58, zoom: 2.5 };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @typedef {object} Photo
 * @property {number} id in the darkroom
 * @property {number} width of the whole picture, pixels
 * @property {number} height
 * @property {ImageBitmap} bitmap what is shown of it
 */

/** What the stage's help says: `HOW` after what was found. */
const HOW = "Drag the corners onto the film's, or move them with the arrow keys.";
const FOUND = "Check the outline.";
const LOOKING = "Looking for the film.";
const NOTHING = "No film found by itself.";
const UNABLE = "This bundle finds no films by itself.";

/**
 * @callback Suggest
 * @param {Photo} photo
 * @returns {Promise<{ corners: import("./perspective.js").Point[] | null, canFind: boolean }>} `canFind`: whether the bundle can find any
 */

/**
 * Let the user put the corners.
 *
 * @param {Photo} photo changed when the user rotates it
 * @param {import("./perspective.js").Point[] | null} corners to start from; null suggests them
 * @param {import("./workers.js").Helper} darkroom
 * @param {Suggest} suggest
 * @returns {Promise<import("./perspective.js").Point[] | null>} null when the user goes back
 */
export async function editCorners(photo, corners, darkroom, suggest) {
  const stage = new Stage(photo);
  const say = (...words) => (find("corner-help").textContent = [...words, HOW].join(" "));
  const findFilm = async () => {
    say(LOOKING);
    stage.isTouched = false;
    let shown;
    let found;
    do {
      shown = photo.bitmap;
      found = await suggest(photo);
    } while (stage.isOpen && photo.bitmap !== shown); // it was turned meanwhile
    if (!stage.isOpen) return;
    if (stage.isTouched) return say();
    if (found.corners) stage.place(found.corners);
    say(found.corners ? FOUND : found.canFind ? NOTHING : UNABLE);
  };
  try {
    return await new Promise((done) => {
      enter("corners", () => done(null));
      stage.open();
      stage.place(corners ?? inset(photo, 0.1));
      if (corners) say();
      else findFilm();
      find("find").onclick = findFilm;
      find("whole").onclick = () => {
        stage.isTouched = true;
        stage.place(inset(photo, 0));
      };
      find("turn").onclick = async () => {
        const shown = await darkroom.call("turn", { id: photo.id });
        const turned = stage.corners.map(([x, y]) => [photo.height - y, x]);
        Object.assign(photo, shown);
        stage.place([turned[3], ...turned.slice(0, 3)]);
      };
      find("use").onclick = () => {
        leave();
        done(stage.corners);
      };
    });
  } finally {
    stage.close();
  }
}

const inset = ({ width, height }, share) => {
  const [x, y] = [width * share, height * share];
  return [[x, y], [width - x, y], [width - x, height - y], [x, height - y]];
};

class Stage {
  corners = null;
  isOpen = false;
  /** Whether the user put a corner, so that none found later takes its place. */
  isTouched = false;
  #photo;
  #held = null;
  #frame = 0;
  #handles = Array.from(document.querySelectorAll(".handle"));
  #observer = new ResizeObserver(() => this.#draw());

  constructor(photo) {
    this.#photo = photo;
  }

  open() {
    this.isOpen = true;
    for (const [n, handle] of this.#handles.entries()) {
      handle.onpointerdown = (event) => this.#take(n, event);
      handle.onpointermove = (event) => this.#drag(n, event);
      handle.onpointerup = handle.onpointercancel = () => this.#release();
      handle.onkeydown = (event) => this.#step(n, event);
    }
    this.#observer.observe(find("stage"));
    this.#draw();
  }

  close() {
    this.isOpen = false;
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  place(corners) {
    this.corners = corners.map(([x, y]) => [x, y]);
    this.#draw();
  }

  /** Where the photo lies on the stage. */
  #layout() {
    const { clientWidth, clientHeight } = find("stage");
    const { width, height } = this.#photo;
    const scale = Math.max(0.001, Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height));
    return { scale, left: (clientWidth - width * scale) / 2, top: (clientHeight - height * scale) / 2, clientWidth, clientHeight };
  }

  /** Move a corner, unless the outline would cross itself. */
  #move(n, [x, y]) {
    const { width, height } = this.#photo;
    const moved = this.corners.with(n, [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))]);
    if (isConvex(moved)) this.corners = moved;
    this.#draw();
  }

  #take(n, event) {
    event.preventDefault();
    this.isTouched = true;
    this.#handles[n].focus({ preventScroll: true });
    this.#handles[n].setPointerCapture(event.pointerId);
    // The corner keeps its distance from the finger, which so doesn't hide it.
    this.#held = { n, x: event.clientX, y: event.clientY, corner: this.corners[n] };
    this.#draw();
  }

  #drag(n, event) {
    if (this.#held?.n !== n) return;
    const { scale } = this.#layout();
    const { x, y, corner } = this.#held;
    this.#move(n, [corner[0] + (event.clientX - x) / scale, corner[1] + (event.clientY - y) / scale]);
  }

  #release() {
    this.#held = null;
    this.#draw();
  }

  #step(n, event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    this.isTouched = true;
    const length = (event.shiftKey ? 10 : 1) / this.#layout().scale;
    this.#move(n, [this.corners[n][0] + step[0] * length, this.corners[n][1] + step[1] * length]);
    const [x, y] = this.corners[n];
    find("corner-place").textContent = `${Math.round((100 * x) / this.#photo.width)} % across, ${Math.round((100 * y) / this.#photo.height)} % down`;
  }

  #draw() {
    if (!this.isOpen) return;
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const layout = this.#layout();
    const canvas = find("photo");
    const density = devicePixelRatio;
    const size = [Math.round(layout.clientWidth * density), Math.round(layout.clientHeight * density)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, layout.clientWidth, layout.clientHeight);
    const { bitmap, width, height } = this.#photo;
    context.drawImage(bitmap, layout.left, layout.top, width * layout.scale, height * layout.scale);
    const points = this.corners.map(([x, y]) => [layout.left + x * layout.scale, layout.top + y * layout.scale]);
    const outline = new Path2D();
    points.forEach(([x, y], n) => (n ? outline.lineTo(x, y) : outline.moveTo(x, y)));
    outline.closePath();
    const around = new Path2D();
    around.rect(0, 0, layout.clientWidth, layout.clientHeight);
    around.addPath(outline);
    context.fillStyle = "#05070a99";
    context.fill(around, "evenodd");
    context.strokeStyle = "#8fd0f5";
    context.lineWidth = 2;
    context.stroke(outline);
    points.forEach(([x, y], n) => (this.#handles[n].style.transform = `translate(${x}px, ${y}px)`));
    if (this.#held) this.#magnify(context, layout, points[this.#held.n]);
  }

  /** Show what lies under the held corner, in the upper corner of the stage that is farther from it. */
  #magnify(context, layout, [x, y]) {
    const { radius, zoom } = GLASS;
    const centre = [x > layout.clientWidth / 2 ? radius + 10 : layout.clientWidth - radius - 10, radius + 6];
    context.save();
    context.beginPath();
    context.arc(...centre, radius, 0, 2 * Math.PI);
    context.clip();
    context.fillStyle = "#000";
    context.fill();
    context.translate(centre[0] - x * zoom, centre[1] - y * zoom);
    context.scale(zoom, zoom);
    const { bitmap, width, height } = this.#photo;
    context.drawImage(bitmap, layout.left, layout.top, width * layout.scale, height * layout.scale);
    context.restore();
    context.strokeStyle = "#8fd0f5";
    context.beginPath();
    context.arc(...centre, radius, 0, 2 * Math.PI);
    context.moveTo(centre[0] - 14, centre[1]);
    context.lineTo(centre[0] + 14, centre[1]);
    context.moveTo(centre[0], centre[1] - 14);
    context.lineTo(centre[0], centre[1] + 14);
    context.stroke();
  }
}
