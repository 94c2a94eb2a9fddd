/** The app: films in, answer out. Pixels are handled in one worker (darkroom.js), the model in another (reader.js); this is the page. */
import { takePhoto } from "./camera.js";
import { suggestCorners } from "./corners.js";
import { editCorners } from "./editor.js";
import { keepOffline } from "./offline.js";
import { Problem } from "./problems.js";
import { describeAnswer, describeModel, describeWay, list, showAnswer } from "./result.js";
import { begin, enter, find, leave, prepareDialogs, reveal, stop } from "./screens.js";
import { prepareSharing } from "./share.js";
import { drawSketch } from "./sketches.js";
import { describeFilms, describeView, nameView, PROBLEMS } from "./words.js";
import { Helper } from "./workers.js";

const MOST_THREADS = 4;
/** The smallest module with a SIMD instruction: browsers without it can't run the model. */
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

const darkroom = new Helper(new URL("darkroom.js", import.meta.url));
const reader = new Helper(new URL("reader.js", import.meta.url));
/** What the bundle is asked; null until the reader tells. @type {import("../runner/edgekit.js").Task | null} */
let task = null;
/** Films given, by view: picture, corners, film, bitmap. */
const slots = {};
let chosen = null;
let opening = null;
let answer = null;

function start() {
  if (!isSecureContext) return location.replace("insecure.html");
  begin();
  prepareDialogs();
  find("retry").addEventListener("click", () => location.reload());
  if (!WebAssembly.validate(SIMD)) return stopWith(new Problem("unsupported"));
  prepareSources();
  find("identify").addEventListener("click", identify);
  find("cancel").addEventListener("click", () => {
    reader.stop();
    openModel();
  });
  find("again").addEventListener("click", startOver);
  find("swap").addEventListener("click", swapAndRead);
  prepareSharing(() => answer);
  prepareAbout();
  openModel().then((model) => keepOffline(model?.runtime.files ?? [], () => model && tellState("Ready offline", "ready")));
}

// -- the model ---------------------------------------------------------------------------------------------------------

/** Open the model in the background; `opening` resolves to what it says about itself, or to null when it can't be opened. */
async function openModel() {
  tellState("Loading model");
  const threads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  const tellProgress = ({ received, total }) => tellState(received < total ? `Loading model ${Math.floor((100 * received) / total)} %` : "Checking model");
  const tellNews = (news) => (news.task ? prepareTask(news) : tellProgress(news));
  opening = reader.call("open", { threads }, [], tellNews).then(
    (model) => {
      tellState("Ready", "ready");
      find("self-test").disabled = false;
      find("about-facts").replaceChildren(...list({ ...describeModel(model), ...describeWay(model) }));
      find("about-use").textContent = model.intendedUse;
      return model;
    },
    (problem) => {
      if (problem.code !== "cancelled") stopWith(problem);
      return null;
    },
  );
  return opening;
}

function tellState(text, kind = "") {
  find("state").textContent = text;
  find("state").className = `chip ${kind}`;
}

/** Show that the app can't go on, and why. */
function stopWith(problem) {
  const { title, text } = explain(problem);
  find("stopped-title").textContent = title;
  find("stopped-text").textContent = text;
  tellState("Stopped", "bad");
  stop();
}

async function identify() {
  setBusy("Reading the films");
  try {
    const model = await opening;
    if (!model) return;
    const given = task.views.filter((view) => slots[view]);
    const started = performance.now();
    const canvases = {};
    for (const view of given) {
      const { canvas, letterbox } = await darkroom.call("canvas", { id: slots[view].id, side: model.side });
      canvases[view] = canvas;
      slots[view].letterbox = letterbox;
    }
    const found = await reader.call("infer", canvases);
    answer = describeAnswer(found, slots, model, performance.now() - started);
    showAnswer(answer);
    enter("result");
  } catch (problem) {
    if (problem.code !== "cancelled") explainProblem(problem, identify);
  } finally {
    setBusy(null);
  }
}

function setBusy(text) {
  find("task").hidden = !text;
  find("identify").hidden = Boolean(text);
  if (text) find("task-text").textContent = text;
}

async function swapAndRead() {
  const [first, second] = task.views;
  [slots[first], slots[second]] = [slots[second], slots[first]];
  leave();
  task.views.forEach(showSlot);
  await identify();
}

function startOver() {
  for (const view of task.views) removeFilm(view);
  answer = null;
  leave();
}

// -- films -------------------------------------------------------------------------------------------------------------

/** Take a film in: a DICOM or gray picture as it is, a photo through its corners. */
async function addFilm(view, source) {
  setSlotBusy(view, true);
  let photo = null;
  try {
    photo = await darkroom.call("open", { source }, source instanceof ImageBitmap ? [source] : []);
    const corners = photo.coloured ? await editCorners(photo, null, darkroom, suggest) : undefined;
    if (corners === null) return forget(photo);
    await develop(view, photo, corners);
  } catch (problem) {
    if (photo && slots[view]?.id !== photo.id) forget(photo);
    leave();
    explainProblem(problem, () => askSource(view));
  } finally {
    setSlotBusy(view, false);
  }
}

/** Find the film in a photo, as soon as the model is there. @type {import("./editor.js").Suggest} */
async function suggest(photo) {
  const model = await opening;
  const canFind = !model || model.cornerSide !== null;
  if (!model || !canFind) return { corners: null, canFind };
  try {
    return { corners: await suggestCorners(photo, model.cornerSide, darkroom, reader), canFind };
  } catch {
    return { corners: null, canFind }; // the reader was stopped: the user puts the corners
  }
}

async function develop(view, photo, corners) {
  const film = await darkroom.call("develop", { id: photo.id, corners });
  if (slots[view] && slots[view].id !== photo.id) forget(slots[view]);
  slots[view] = { id: photo.id, photo, corners, bitmap: film.bitmap };
  showSlot(view);
}

async function adjustFilm(view) {
  const { photo, corners } = slots[view];
  const { width, height } = photo;
  const all = [[0, 0], [width, 0], [width, height], [0, height]];
  try {
    const moved = await editCorners(photo, corners ?? all, darkroom, suggest);
    if (moved) await develop(view, photo, moved);
  } catch (problem) {
    explainProblem(problem, () => adjustFilm(view));
  }
}

function removeFilm(view) {
  if (slots[view]) forget(slots[view]);
  slots[view] = null;
  showSlot(view);
}

const forget = ({ id }) => darkroom.call("drop", { id });

const slotOf = (view) => document.querySelector(`.slot[data-view="${view}"]`);

function setSlotBusy(view, isBusy) {
  slotOf(view).querySelector(".spinner").hidden = !isBusy;
  slotOf(view).disabled = isBusy;
}

function showSlot(view) {
  const button = slotOf(view);
  const canvas = button.querySelector(".film");
  const film = slots[view];
  button.querySelector(".sketch").toggleAttribute("hidden", Boolean(film));
  canvas.hidden = !film;
  button.querySelector(".note").textContent = film ? "Touch to change" : describeView(view);
  if (film) {
    [canvas.width, canvas.height] = [film.bitmap.width, film.bitmap.height];
    canvas.getContext("2d").drawImage(film.bitmap, 0, 0);
  }
  find("identify").disabled = !task.views.some((each) => slots[each]);
}

// -- where films come from ---------------------------------------------------------------------------------------------

/** Ask what the bundle is asked, with a slot for each of its views. Once: a reader that starts again tells it again. */
function prepareTask({ task: told, cases }) {
  if (task) return;
  task = told;
  document.title = `edgekit: ${task.question}`;
  find("films-title").textContent = task.question;
  find("films-lead").textContent = describeFilms(task, cases);
  find("films-use").textContent = task.intended_use.match(/^.*?[.!?](?=\s|$)|^.*/s)[0];
  find("slots").dataset.count = task.views.length;
  for (const view of task.views) {
    const button = find("slot").content.firstElementChild.cloneNode(true);
    button.dataset.view = view;
    button.querySelector("b").textContent = nameView(view);
    drawSketch(button.querySelector(".sketch"), task.name, view);
    slots[view] = null;
    find("slots").append(button);
    showSlot(view);
    button.addEventListener("click", () => askSource(view));
    button.addEventListener("dragover", (event) => {
      event.preventDefault();
      button.classList.add("over");
    });
    button.addEventListener("dragleave", () => button.classList.remove("over"));
    button.addEventListener("drop", (event) => {
      event.preventDefault();
      button.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) addFilm(view, file);
    });
  }
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file && !find("films").hidden) addFilm(find("source").open ? chosen : task.views.find((view) => !slots[view]) ?? task.views[0], file);
    find("source").close();
  });
  reveal();
}

function askSource(view) {
  chosen = view;
  const film = slots[view];
  find("source-title").textContent = `${nameView(view)} film`;
  find("choose-adjust").hidden = find("choose-remove").hidden = !film;
  find("source").showModal();
}

function prepareSources() {
  const close = () => {
    find("source").close();
    find("notice").close();
  };
  find("choose-adjust").addEventListener("click", () => {
    close();
    adjustFilm(chosen);
  });
  find("choose-remove").addEventListener("click", () => {
    close();
    removeFilm(chosen);
  });
  find("choose-camera").addEventListener("click", () => {
    close();
    photograph(chosen);
  });
  find("choose-paste").addEventListener("click", () => {
    close();
    paste(chosen);
  });
  for (const input of document.querySelectorAll("dialog input[type=file]")) {
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      close();
      if (file) addFilm(chosen, file);
    });
  }
}

async function photograph(view) {
  try {
    const taken = await takePhoto();
    if (taken) await addFilm(view, taken);
  } catch (problem) {
    explainProblem(problem, () => askSource(view));
  }
}

async function paste(view) {
  try {
    const items = await navigator.clipboard.read();
    const item = items.find(({ types }) => types.includes("image/png"));
    if (!item) throw new Problem("clipboard");
    await addFilm(view, await item.getType("image/png"));
  } catch {
    explainProblem(new Problem("clipboard"), () => askSource(view));
  }
}

// -- messages ----------------------------------------------------------------------------------------------------------

/** The words for a problem, also for one that nobody foresaw. */
function explain(problem) {
  const words = PROBLEMS[problem.code] ?? (problem instanceof RangeError ? PROBLEMS.memory : PROBLEMS.failed);
  const { file, ...details } = problem.details ?? { message: problem.message };
  const said = words(details);
  return file ? { ...said, text: `${file}: ${said.text}` } : said;
}

function explainProblem(problem, wayOn) {
  const { title, text, way } = explain(problem);
  find("notice-title").textContent = title;
  find("notice-text").textContent = text;
  find("notice-way").textContent = way;
  find("notice-camera").hidden = problem.code !== "camera";
  find("notice-way").className = problem.code === "camera" ? "quiet" : "primary";
  find("notice-way").onclick = () => {
    find("notice").close();
    wayOn();
  };
  find("notice").showModal();
}

function prepareAbout() {
  find("open-about").addEventListener("click", () => find("about").showModal());
  find("self-test").addEventListener("click", async () => {
    const say = (text) => (find("self-test-result").textContent = text);
    say("Checking …");
    try {
      await reader.call("selfTest");
      say("This device answers as the one that made the model.");
    } catch (problem) {
      if (problem.code !== "disagrees") return say(explain(problem).text);
      find("about").close();
      stopWith(problem);
    }
  });
}

start();
