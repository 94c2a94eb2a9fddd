/** The screen with the answer. */
import { drawFilm } from "./drawing.js";
import { find } from "./screens.js";
import { capitalize, DECISIONS, nameCase, nameView, percent, plural } from "./words.js";

/**
 * Put what the graph says into the words and numbers that are shown and shared.
 *
 * @param {object} found what the reader answered
 * @param {Object<string, object>} slots the films given, each with `bitmap` and `letterbox`
 * @param {object} model what the reader said when it opened
 * @param {number} elapsedMs from the films to the answer
 */
export function describeAnswer(found, slots, model, elapsedMs) {
  const { outputs, decision, brand, predictionSet } = found;
  const { task } = model;
  const given = task.views.filter((view) => slots[view]);
  const ranking = model.brands
    .map((name, index) => ({ brand: name, share: outputs.probabilities[index] }))
    .sort((a, b) => b.share - a.share)
    .map((row) => ({ ...row, text: percent(row.share), fits: predictionSet.includes(row.brand) }));
  const looked = given.map((view) => look(view, slots[view], found, model));
  const seen = looked.filter(({ isFound }) => isFound).map(({ view }) => view);
  const isAnswerable = seen.length === 0 || model.cases.includes(nameCase(task.views, seen));
  const needed = isAnswerable ? [] : task.views.filter((view) => !seen.includes(view));
  const words = DECISIONS[decision]({ task, given, seen, needed, brand, set: predictionSet, share: percent(ranking[0].share) });
  // A decision that is no answer stands alone: beside it a ranking or a set would be read as one.
  const answers = decision === "identified" || decision === "ambiguous";
  const shown = { ranking: answers ? ranking : [], set: answers ? predictionSet : [] };
  return { decision, words, ...shown, looked, model, elapsedMs, graphMs: found.elapsedMs };
}

/** One film, where something was found on it as shares of its sides, and the heat map over what was cropped. */
function look(view, { bitmap, letterbox }, { outputs, shapes }, { task, side, margin }) {
  const index = task.views.indexOf(view);
  const film = { view, bitmap, isFound: outputs.found[index] > 0, score: outputs.box_scores[index], box: null, heat: null };
  if (!film.isFound) return film;
  const [x0, y0, x1, y1] = outputs.boxes.subarray(4 * index, 4 * index + 4);
  const { left, top, width, height } = letterbox;
  const toFilm = ([a, b, c, d]) => [(a - left) / width, (b - top) / height, (c - left) / width, (d - top) / height];
  if (task.locate) film.box = toFilm([x0, y0, x1, y1]).map((share) => Math.min(1, Math.max(0, share)));
  const [dx, dy] = [(x1 - x0) * margin, (y1 - y0) * margin];
  const cropped = [Math.max(0, x0 - dx), Math.max(0, y0 - dy), Math.min(side, x1 + dx), Math.min(side, y1 + dy)];
  const [, rows, columns] = shapes.heatmaps;
  const values = outputs.heatmaps.slice(index * rows * columns, (index + 1) * rows * columns);
  if (values.some((value) => value > 0)) film.heat = { values, rows, columns, place: toFilm(cropped) };
  return film;
}

/** Show an answer. */
export function showAnswer(answer) {
  const { words, ranking, looked, set, decision, model } = answer;
  find("verdict-card").dataset.tone = words.tone;
  find("verdict-label").textContent = words.label;
  find("verdict").textContent = words.title;
  find("verdict-text").textContent = words.text;
  find("verdict-set").replaceChildren(...(decision === "ambiguous" ? set.map((brand) => make("li", brand)) : []));
  find("verdict-set").setAttribute("aria-label", `${capitalize(plural(model.task.told))} that fit`);
  find("swap").hidden = decision !== "films swapped" || model.task.views.length !== 2;

  find("ranking-card").hidden = ranking.length === 0;
  find("ranking-title").textContent = capitalize(plural(model.task.told));
  find("ranking").replaceChildren(...ranking.map(makeRow));
  const coverage = Math.round(100 * model.thresholds.coverage);
  const named = set.length ? set.join(", ") : "none";
  find("set-note").textContent = `Prediction set: ${named}. On patients like those it was tested on, it holds the right ${model.task.told} in ${coverage} % of cases.`;

  showFilms(looked, model.task);
  find("facts").replaceChildren(
    ...list({
      "Time": `${formatTime(answer.elapsedMs)}, of which the model ${formatTime(answer.graphMs)}`,
      "Films read": looked.map(({ view, isFound }) => `${nameView(view)}${isFound ? "" : ` (no ${model.task.found} found)`}`).join(", "),
      ...describeModel(model),
    }),
  );
  find("intended-use").textContent = model.intendedUse;
}

/** @returns {Object<string, string>} what is said about the model */
export function describeModel(model) {
  return {
    "Model": model.name,
    "Version": `${model.version} · ${model.precision}`,
    "Checked": model.verified ? "against its reference, passed" : "not verified against its reference",
  };
}

/** @returns {Object<string, string>} what is said about how this device runs the model */
export function describeWay({ way, rejected, runtime }) {
  return { "Runs as": `${way}, ${runtime.name} ${runtime.version}`, ...(rejected.length && { "Not used": rejected.map((each) => `${each.way}: ${each.reason}`).join("; ") }) };
}

/** @returns {HTMLElement[]} terms and descriptions of a list */
export const list = (facts) => Object.entries(facts).flatMap(([term, fact]) => [make("dt", term), make("dd", fact)]);

function showFilms(looked, task) {
  const layers = { box: true, heat: true };
  const figures = looked.map((film) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [film.bitmap.width, film.bitmap.height];
    canvas.setAttribute("role", "img");
    const name = nameView(film.view);
    const [label, caption] = describeFilm(film, task);
    canvas.setAttribute("aria-label", `${name} film${label}`);
    figure.append(canvas, make("figcaption", `${name}${caption}`));
    return { canvas, film, figure };
  });
  const draw = ({ canvas, film }) => drawFilm(canvas, film, layers);
  for (const [id, layer] of [["toggle-box", "box"], ["toggle-heat", "heat"]]) {
    const button = find(id);
    button.hidden = !looked.some((film) => film[layer]);
    button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      layers[layer] = !layers[layer];
      button.setAttribute("aria-pressed", String(layers[layer]));
      figures.forEach(draw);
    };
  }
  find("looked").replaceChildren(...figures.map(({ figure }) => figure));
  // Each film in a task of its own: together with the screen's layout they would block the page for longer than a touch may wait.
  figures.forEach((figure) => setTimeout(() => draw(figure)));
}

/** What is said of a film after its view: to who can't see it, and below it. */
function describeFilm({ isFound, box, score }, { found }) {
  if (!isFound) return [`, no ${found} found`, ` · no ${found}, not used`];
  return box ? [` with the ${found} outlined`, ` · ${found} ${percent(score)}`] : ["", ""];
}

function makeRow({ brand, share, text, fits }) {
  const row = make("li");
  row.classList.toggle("fits", fits);
  const meter = make("span");
  meter.className = "meter";
  meter.setAttribute("aria-hidden", "true");
  meter.style.setProperty("--share", share);
  row.append(make("span", brand), make("span", text), meter);
  return row;
}

function make(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

const formatTime = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
