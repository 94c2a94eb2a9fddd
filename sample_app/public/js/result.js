/** The screen with the answer. */
import { drawFilm } from "./drawing.js";
import { find } from "./screens.js";
import { DECISIONS, percent, VIEW_NAMES } from "./words.js";

const VIEWS = ["ap", "lateral"];

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
  const given = VIEWS.filter((view) => slots[view]);
  const ranking = model.brands
    .map((name, index) => ({ brand: name, share: outputs.probabilities[index] }))
    .sort((a, b) => b.share - a.share)
    .map((row) => ({ ...row, text: percent(row.share), fits: predictionSet.includes(row.brand) }));
  const looked = given.map((view) => look(view, slots[view], found, model));
  const words = DECISIONS[decision]({ brand, set: predictionSet, filmsGiven: given.length, share: percent(ranking[0].share) });
  // A decision that is no answer stands alone: beside it a ranking or a set would be read as one.
  const answers = decision === "identified" || decision === "ambiguous";
  const shown = { ranking: answers ? ranking : [], set: answers ? predictionSet : [] };
  return { decision, words, ...shown, looked, model, elapsedMs, graphMs: found.elapsedMs };
}

/** One film, where the construct is on it as shares of its sides, and the heat map over it. */
function look(view, { bitmap, letterbox }, { outputs, shapes }, { thresholds }) {
  const index = VIEWS.indexOf(view);
  const score = outputs.box_scores[index];
  const [x0, y0, x1, y1] = outputs.boxes.subarray(4 * index, 4 * index + 4);
  const { left, top, width, height } = letterbox;
  const limit = (value) => Math.min(1, Math.max(0, value));
  const box = [limit((x0 - left) / width), limit((y0 - top) / height), limit((x1 - left) / width), limit((y1 - top) / height)];
  const side = shapes.heatmaps[1];
  const values = outputs.heatmaps.slice(index * side * side, (index + 1) * side * side);
  const isFound = score >= thresholds.box;
  return { view, bitmap, score, box: isFound ? box : null, heat: isFound && values.some((value) => value > 0) ? { values, side } : null };
}

/** Show an answer. */
export function showAnswer(answer) {
  const { words, ranking, looked, set, decision, model } = answer;
  find("verdict-card").dataset.tone = words.tone;
  find("verdict-label").textContent = words.label;
  find("verdict").textContent = words.title;
  find("verdict-text").textContent = words.text;
  find("verdict-set").replaceChildren(...(decision === "ambiguous" ? set.map((brand) => make("li", brand)) : []));
  find("swap").hidden = decision !== "films swapped";

  find("ranking-card").hidden = ranking.length === 0;
  find("ranking").replaceChildren(...ranking.map(makeRow));
  const coverage = Math.round(100 * model.thresholds.coverage);
  const named = set.length ? set.join(", ") : "none";
  find("set-note").textContent = `Prediction set: ${named}. On patients like those it was tested on, it holds the right brand in ${coverage} % of cases.`;

  showFilms(looked);
  find("facts").replaceChildren(
    ...list({
      "Time": `${formatTime(answer.elapsedMs)}, of which the model ${formatTime(answer.graphMs)}`,
      "Films read": looked.map(({ view, box }) => `${VIEW_NAMES[view]}${box ? "" : " (no construct found)"}`).join(", "),
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
export function describeWay({ way, rejected }) {
  return { "Runs as": way, ...(rejected.length && { "Not used": rejected.map((each) => `${each.way}: ${each.reason}`).join("; ") }) };
}

/** @returns {HTMLElement[]} terms and descriptions of a list */
export const list = (facts) => Object.entries(facts).flatMap(([term, fact]) => [make("dt", term), make("dd", fact)]);

function showFilms(looked) {
  const layers = { box: true, heat: true };
  const figures = looked.map((film) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [film.bitmap.width, film.bitmap.height];
    canvas.setAttribute("role", "img");
    const name = VIEW_NAMES[film.view];
    canvas.setAttribute("aria-label", `${name} film${film.box ? " with the construct outlined" : ", no construct found"}`);
    figure.append(canvas, make("figcaption", film.box ? `${name} · construct ${percent(film.score)}` : `${name} · no construct, not used`));
    return { canvas, film, figure };
  });
  const draw = ({ canvas, film }) => drawFilm(canvas, film, layers);
  for (const [id, layer] of [["toggle-box", "box"], ["toggle-heat", "heat"]]) {
    const button = find(id);
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
