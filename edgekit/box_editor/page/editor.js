// The box editor. Boxes are [x0, y0, x1, y1] in film pixels; the server saves each decision before it answers.

/** @returns {string} a view as a person writes it */
const sayView = (view) => (view === "ap" ? "AP" : view.replaceAll("_", " "));
const GRIP = 8; // CSS pixels around an edge in which it can be taken
const STEP = 2; // CSS pixels that an arrow key moves, at least one film pixel
const LEAST_DRAG = 5; // CSS pixels; less is a click
const LEAST_SIDE = 2; // film pixels, as the server demands
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function draw(tag, properties, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

let films = []; // each: {patient, row, view, name, box, checked, siblings}, and once it is shown {parts, width, height, unreadable}
let rows = []; // the films of each row of the table
let at = 0; // the film in work
let drag = null;
const pictures = new Map(); // film -> promise of the address of its picture

// -- saving ------------------------------------------------------------------------------------------------------------------

const waiting = new Set(); // films whose last decision is not saved
const failed = new Set(); // those of them that could not be: tried again at the next decision
let saving = false;

function decide(film, box) {
  film.box = box;
  film.checked = true;
  waiting.add(film);
  failed.delete(film);
  show(film);
  save();
}

async function save() {
  if (saving) return; // the loop below finds what was added
  saving = true;
  $("saved").textContent = "Saving …";
  failed.clear();
  for (let film; (film = [...waiting].find((other) => !failed.has(other)));) {
    const { box } = film, fault = await send(film);
    if (fault === null && film.box === box) waiting.delete(film); // else it was changed meanwhile
    if (fault !== null && film.box === box) {
      failed.add(film);
      $("alarm").textContent = `Not saved, patient ${film.patient}, ${sayView(film.view)}: ${fault}`;
    }
    show(film);
    count();
  }
  saving = false;
  $("alarm").hidden = !failed.size;
  $("saved").textContent = failed.size ? "Not saved" : "Saved";
}

/** Send a film's decision; return why it was not saved, or null. */
async function send(film) {
  try {
    const answer = await fetch(`films/${films.indexOf(film)}`, { method: "PUT", body: JSON.stringify({ box: film.box }) });
    return answer.ok ? null : await answer.text();
  } catch {
    return "edgekit does not answer. If it has ended, start edgekit studies boxes again and open the address that it prints.";
  }
}

addEventListener("beforeunload", (event) => { if (waiting.size) event.preventDefault(); });

function count() {
  const done = films.filter((film) => film.checked && !waiting.has(film)).length;
  $("done").textContent = `${done} of ${films.length} films done`;
  Object.assign($("progress"), { max: films.length, value: done });
}

// -- films -------------------------------------------------------------------------------------------------------------------

function fetchPicture(film) {
  if (!pictures.has(film)) {
    pictures.set(film, fetch(`films/${films.indexOf(film)}`).then(async (answer) => {
      if (!answer.ok) throw new Error(await answer.text());
      return URL.createObjectURL(await answer.blob());
    }));
    pictures.get(film).catch(() => {}); // told where the film is shown
  }
  return pictures.get(film);
}

/** Read the films of the rows beside this one ahead, and forget those farther away. */
function keepNear(place) {
  for (const film of [rows[place + 1], rows[place - 1]].flat()) if (film) fetchPicture(film);
  for (const [film, picture] of pictures) {
    if (Math.abs(rows.indexOf(film.siblings) - place) > 1) {
      pictures.delete(film);
      picture.then(URL.revokeObjectURL, () => {});
    }
  }
}

async function showPicture(film) {
  const { image, note, stage } = film.parts;
  try {
    image.src = await fetchPicture(film);
    await image.decode();
  } catch (error) {
    film.unreadable = true;
    note.textContent = `This film can't be read. ${error.message}`;
    return;
  }
  note.remove();
  Object.assign(film, { width: image.naturalWidth, height: image.naturalHeight });
  stage.dataset.ready = "";
  film.parts.svg.setAttribute("viewBox", `0 0 ${film.width} ${film.height}`);
  show(film);
}

function makeFilm(film) {
  const note = make("p", { textContent: "Reading the film …" });
  const image = make("img", { alt: "" });
  const stage = make("div", { className: "stage" }, image);
  const svg = draw("svg", { "aria-hidden": "true" }, stage);
  stage.append(note);
  const state = make("span", { className: "state" });
  const title = make("h2", {}, make("span", { textContent: sayView(film.view) }), make("span", { className: "name", textContent: film.name }), state);
  const section = make("section", { className: "film", tabIndex: 0, onfocus: () => choose(films.indexOf(film)) }, stage, title);
  section.setAttribute("role", "application"); // arrow keys are for the box, not for a screen reader's cursor
  section.setAttribute("aria-describedby", "keys");
  Object.assign(film, { parts: { section, stage, image, svg, note, state }, width: null, unreadable: false });
  Object.assign(stage, { onpointerdown: begin, onpointermove: move, onpointerup: end, onpointercancel: cancel, onlostpointercapture: cancel });
  stage.film = film;
  showPicture(film);
  return section;
}

function describe(film) {
  const size = film.box && `${film.box[2] - film.box[0]} × ${film.box[3] - film.box[1]} pixels`;
  if (failed.has(film)) return ["unsaved", "not saved: the next change tries again"];
  if (!film.checked) return film.box ? ["proposed", `proposed, ${size}: Enter accepts`] : ["open", "to do"];
  return film.box ? ["checked", `done, ${size}`] : ["none", "done, no box"];
}

/** Draw the box of a film, and say what state it is in. */
function show(film) {
  if (!film.parts.section.isConnected) return;
  const { section, svg, state } = film.parts;
  const [name, words] = describe(film);
  section.dataset.state = name;
  state.textContent = words;
  section.setAttribute("aria-label", `${sayView(film.view)} film of patient ${film.patient}: ${words}`);
  svg.replaceChildren();
  if (film.box && film.width) {
    const [x0, y0, x1, y1] = film.box;
    for (const kind of ["shade", "box"]) draw("rect", { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0 }, svg);
    const side = 8 * scale(film);
    for (const x of [x0, x1]) for (const y of [y0, y1]) draw("rect", { class: "handle", x: x - side / 2, y: y - side / 2, width: side, height: side }, svg);
  }
  count();
}

function choose(place) {
  const changed = films[place].siblings !== films[at].siblings || !films[place].parts?.section.isConnected;
  at = place;
  const film = films[at], row = rows.indexOf(film.siblings);
  if (changed) {
    $("films").replaceChildren(...film.siblings.map(makeFilm));
    film.siblings.forEach(show);
    keepNear(row);
    $("title").textContent = `Patient ${film.patient} (${row + 1} of ${rows.length})`;
  }
  for (const sibling of film.siblings) sibling.parts.section.classList.toggle("active", sibling === film);
  $("previous").disabled = at === 0;
  $("next").disabled = at === films.length - 1;
}

function go(place) {
  if (place < 0 || place >= films.length) return;
  choose(place);
  films[place].parts.section.focus();
}

function accept() {
  const film = films[at];
  if (!film.width && !film.unreadable) return; // nobody has seen it yet
  if (film.box && !film.checked && film.width) decide(film, film.box);
  const open = films.findIndex((other) => !other.checked);
  if (at < films.length - 1) go(at + 1);
  else if (open >= 0) go(open);
  else $("title").textContent = "All films are done. End edgekit with Ctrl-C, or go on correcting.";
}

// -- the mouse ---------------------------------------------------------------------------------------------------------------

/** Film pixels in one CSS pixel. */
function scale(film) {
  const { clientWidth, clientHeight } = film.parts.stage;
  return Math.max(film.width / clientWidth, film.height / clientHeight);
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Where the mouse is, in film pixels, on the film. */
function locate(film, event) {
  const frame = film.parts.stage.getBoundingClientRect(), size = scale(film);
  const x = (event.clientX - frame.left - frame.width / 2) * size + film.width / 2;
  const y = (event.clientY - frame.top - frame.height / 2) * size + film.height / 2;
  return [clamp(x, 0, film.width), clamp(y, 0, film.height)];
}

/** What a drag from here takes: edges (places in the box), the whole box ("inside"), or nothing (a new box is drawn). */
function grip(film, [x, y]) {
  if (!film.box) return "new";
  const [x0, y0, x1, y1] = film.box, reach = GRIP * scale(film);
  if (x < x0 - reach || x > x1 + reach || y < y0 - reach || y > y1 + reach) return "new";
  const nearest = (value, low, high, places) => {
    const [far, edge] = [[Math.abs(value - low), places[0]], [Math.abs(value - high), places[1]]].sort((a, b) => a[0] - b[0])[0];
    return far <= reach ? [edge] : [];
  };
  const edges = [...nearest(x, x0, x1, [0, 2]), ...nearest(y, y0, y1, [1, 3])];
  return edges.length ? edges : "inside";
}

function cursor(taken) {
  if (taken === "new") return "crosshair";
  if (taken === "inside") return "move";
  if (taken.length === 1) return taken[0] % 2 ? "ns-resize" : "ew-resize";
  return taken[0] + 1 === taken[1] ? "nwse-resize" : "nesw-resize";
}

function begin(event) {
  const { film } = this;
  event.preventDefault(); // no selection, no dragging of the picture
  film.parts.section.focus();
  if (event.button !== 0 || !film.width) return;
  const start = locate(film, event);
  drag = { film, start, taken: grip(film, start), before: { box: film.box, checked: film.checked }, moved: false, x: event.clientX, y: event.clientY };
  this.setPointerCapture(event.pointerId);
}

function move(event) {
  const { film } = this;
  if (!film.width) return;
  const point = locate(film, event);
  if (drag?.film !== film) {
    this.style.cursor = cursor(grip(film, point));
    return;
  }
  drag.moved ||= Math.hypot(event.clientX - drag.x, event.clientY - drag.y) >= LEAST_DRAG;
  if (!drag.moved) return;
  const [dx, dy] = [point[0] - drag.start[0], point[1] - drag.start[1]];
  if (drag.taken === "new") film.box = order([...drag.start, ...point], film);
  else if (drag.taken === "inside") film.box = shift(drag.before.box, dx, dy, film);
  else film.box = order(drag.before.box.map((edge, place) => edge + (drag.taken.includes(place) ? (place % 2 ? dy : dx) : 0)), film);
  show(film);
}

function end() {
  const done = drag;
  drag = null;
  if (done?.moved) decide(done.film, done.film.box);
}

function cancel() {
  if (!drag) return;
  Object.assign(drag.film, drag.before);
  show(drag.film);
  drag = null;
}

/** Round a box to whole film pixels on the film, its corners in order, at least `LEAST_SIDE` wide and high. */
function order([xa, ya, xb, yb], film) {
  const span = (a, b, size) => {
    const [low, high] = [a, b].map((edge) => clamp(Math.round(edge), 0, size)).sort((first, second) => first - second);
    return high - low >= LEAST_SIDE ? [low, high] : low + LEAST_SIDE <= size ? [low, low + LEAST_SIDE] : [size - LEAST_SIDE, size];
  };
  const [x0, x1] = span(xa, xb, film.width), [y0, y1] = span(ya, yb, film.height);
  return [x0, y0, x1, y1];
}

/** Move a box, no farther than to the film's edge. */
function shift([x0, y0, x1, y1], dx, dy, film) {
  const right = clamp(Math.round(dx), -x0, film.width - x1), down = clamp(Math.round(dy), -y0, film.height - y1);
  return order([x0 + right, y0 + down, x1 + right, y1 + down], film);
}

// -- the keyboard ------------------------------------------------------------------------------------------------------------

function press(event, right, down) {
  const film = films[at];
  if (!film.width || drag) return;
  if (!film.box) { // a box to begin with, for those who can't use a mouse; it counts when it is changed or accepted
    film.box = order([film.width / 4, film.height / 4, film.width * 3 / 4, film.height * 3 / 4], film);
    film.checked = false;
    show(film);
    return;
  }
  const step = Math.max(1, Math.round(STEP * scale(film)));
  const [x0, y0, x1, y1] = film.box;
  if (event.shiftKey) decide(film, order([x0, y0, Math.max(x0 + LEAST_SIDE, x1 + right * step), Math.max(y0 + LEAST_SIDE, y1 + down * step)], film));
  else decide(film, shift(film.box, right * step, down * step, film));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !films.length) return;
  const act = {
    Enter: event.target instanceof HTMLButtonElement || event.repeat ? null : accept,
    n: () => go(at + 1),
    p: () => go(at - 1),
    Delete: () => decide(films[at], null),
    Backspace: () => decide(films[at], null),
    Escape: cancel,
    ...Object.fromEntries(Object.entries(ARROWS).map(([key, [right, down]]) => [key, () => press(event, right, down)])),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (drag && event.key !== "Escape")) return;
  event.preventDefault();
  act();
});

const onButton = (id, act) => { $(id).onclick = () => { act(); films[at].parts.section.focus(); }; };
onButton("previous", () => go(at - 1));
onButton("next", () => go(at + 1));
onButton("none", () => decide(films[at], null));
onButton("accept", accept);
addEventListener("resize", () => rows[0] && films[at].siblings.forEach(show)); // the corners' marks keep their size

const answer = await fetch("films");
({ films } = await answer.json());
for (const film of films) {
  const row = rows.at(-1);
  if (row?.[0].row === film.row) row.push(film);
  else rows.push([film]);
  film.siblings = rows.at(-1);
}
go(Math.max(0, films.findIndex((film) => !film.checked)));
