/** All that the app says about answers and problems: calm, in plain words, each with a way on. */

/** Views that are known by letters. */
const LETTERS = { ap: "AP", pa: "PA" };

/** From where a film of these views is taken. */
const DIRECTIONS = { ap: "from the front", pa: "from the back", lateral: "from the side" };

const NUMBERS = ["no", "one", "two", "three"];

/** @returns {string} a view as a person calls it, within a sentence */
const sayView = (view) => LETTERS[view] ?? view.replaceAll("_", " ");

/** @returns {string} a view as a person calls it, standing alone */
export const nameView = (view) => capitalize(sayView(view));

/** @returns {string} what is said below a view's name as long as there is no film of it */
export const describeView = (view) => DIRECTIONS[view] ?? "Touch to add";

export const capitalize = (word) => word[0].toUpperCase() + word.slice(1);

/** @returns {string} more than one of what a word names */
export function plural(word) {
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`;
  return /(s|x|z|ch|sh)$/.test(word) ? `${word}es` : `${word}s`;
}

/**
 * Say which films to give.
 *
 * @param {import("../runner/edgekit.js").Task} task
 * @param {string[]} cases which the bundle can answer, by name: views joined with "+"; "both" of two
 */
export function describeFilms({ views }, cases) {
  if (views.length === 1) return "Give the film. It stays on this device.";
  const all = views.length === 2 ? "both" : `all ${NUMBERS[views.length]}`;
  const alone = views.filter((view) => cases.includes(view));
  if (alone.length === views.length) return `Give one film, or better ${all}. They stay on this device.`;
  if (cases.length === 1 && cases[0] === nameCase(views, views)) return `Give ${all} films. They stay on this device.`;
  const said = cases.map((name) => (name === "both" ? views : name.split("+")).map(sayView).join(" and "));
  return `Give films of ${said.join(", or of ")}. They stay on this device.`;
}

/** @returns {string} the name of the case in which these of a task's views are there */
export const nameCase = (views, there) => (views.length === 2 && there.length === 2 ? "both" : there.join("+"));

/**
 * @typedef {object} Asked what the words about a decision mention
 * @property {import("../runner/edgekit.js").Task} task
 * @property {string[]} given views of the films that were given
 * @property {string[]} seen those of them on which something was found
 * @property {string[]} needed views without which the bundle can't answer from what was found; empty: it could
 * @property {string | null} brand
 * @property {string[]} set the prediction set
 * @property {string} share the greatest probability
 */

/**
 * What the screen of each decision says. `tone` colours it.
 *
 * @type {Object<string, (asked: Asked) => { tone: string, label: string, title: string, text: string }>}
 */
export const DECISIONS = {
  identified: ({ task, given, brand, share }) => ({
    tone: "identified",
    label: "Identified",
    title: brand,
    text: `The only ${task.told} that fits ${these(given)}. Probability ${share}.`,
  }),
  ambiguous: ({ task, given, set }) => ({
    tone: "ambiguous",
    label: "Ambiguous",
    title: set.length > 1 ? `One of ${set.length} ${plural(task.told)}` : "No clear answer",
    text:
      (set.length > 1
        ? `${capitalize(these(given))} ${given.length > 1 ? "fit" : "fits"} more than one ${task.told}. Treat each as possible.`
        : `No ${task.told} fits ${these(given)} well enough to be named.`) + ` ${advise(task, given)}`,
  }),
  unfamiliar: ({ task }) => ({
    tone: "unfamiliar",
    label: "Unfamiliar",
    title: "Not one it has learnt",
    text: `This looks unlike everything the model was trained on. It may be another ${task.told}, so none is named.`,
  }),
  "no construct found": ({ task, given, seen, needed }) =>
    needed.length
      ? {
          tone: "none",
          label: "No answer yet",
          title: "Another film is needed",
          text: `From ${seen.map(sayView).join(" and ")} alone the model can't answer. It also needs ${needed.map(sayView).join(" or ")}.`,
        }
      : {
          tone: "none",
          label: "Nothing to identify",
          title: `No ${task.found} found`,
          text: `The model sees no ${task.found} on ${[, "this film", "either film"][given.length] ?? "any of these films"}. Check that the film fills its outline and is upright, or take the photo again.`,
        },
  "films swapped": ({ task: { views } }) => ({
    tone: "swapped",
    label: "Films swapped?",
    title: views.length === 2 ? `${nameView(views[0])} and ${sayView(views[1])} look exchanged` : "Films look exchanged",
    text: "A film looks like another view than the one it was given as. The answer would not be reliable, so none is given.",
  }),
};

const these = (given) => (given.length > 1 ? "these films" : "this film");

/** What may lead to a clearer answer. */
function advise({ views }, given) {
  const more = views.length - given.length;
  if (more) return more > 1 ? "Another film would help." : "The other film would help.";
  return "A sharper or straighter photo may help.";
}

const ANOTHER = "Choose another picture";
const EXPORT = "Export the film uncompressed or as PNG, or photograph it on the screen.";

/** A sentence about what was found: in an element, or in the file. */
const say = ({ element, found }) => (element ? `${element} is ${found ?? "missing"}.` : `${found[0].toUpperCase()}${found.slice(1)}.`);

/**
 * Problems by code, those of a film as docs/canvas.md lists them: `way` is what the button that leads on says.
 *
 * @type {Object<string, (details: object) => { title: string, text: string, way: string }>}
 */
export const PROBLEMS = {
  empty: () => ({ title: "This file is empty", text: "It holds no data: perhaps it was not copied completely. Copy it again, or choose another.", way: ANOTHER }),
  unknown: () => ({ title: "Not a film this app can read", text: "Give a DICOM, PNG or JPEG file, or photograph the screen.", way: ANOTHER }),
  damaged: (details) => ({ title: "This file is damaged", text: `${say(details)} Copy or export it again.`, way: ANOTHER }),
  imageless: ({ element }) => ({
    title: "No picture in this file",
    text: `This DICOM file has no ${element}: it is a report, a plan or an index. Choose the film itself, or copy it again.`,
    way: ANOTHER,
  }),
  modality: (details) => ({ title: "Not a radiograph", text: `${say(details)} The app reads plain radiographs.`, way: ANOTHER }),
  raw: (details) => ({
    title: "Not yet a picture",
    text: `${say(details)} These are raw values of the detector. Export the film that is FOR PRESENTATION.`,
    way: ANOTHER,
  }),
  frames: (details) => ({ title: "Several pictures in one file", text: `${say(details)} Export the film you mean on its own.`, way: ANOTHER }),
  colour: (details) => ({
    title: "Not a plain film",
    text: `${say(details)} This DICOM file is in colour. Export the original film, or photograph it on the screen.`,
    way: ANOTHER,
  }),
  header: (details) => ({ title: "The header is not a film's", text: `${say(details)} Export the film again, or photograph it on the screen.`, way: ANOTHER }),
  aspect: (details) => ({
    title: "The film would be squeezed",
    text: `${say(details)} Its pixels are not square. Export it with square pixels, or photograph it on the screen.`,
    way: ANOTHER,
  }),
  large: (details) => ({ title: "This picture is too large", text: `${say(details)} Export it smaller, or photograph it on the screen.`, way: ANOTHER }),
  syntax: (details) => ({ title: "This coding is not read", text: `${say(details)} ${EXPORT}`, way: ANOTHER }),
  table: ({ element, found }) => ({
    title: "A lookup table is broken",
    text: `${element} can't be used: ${found}; and there is no window beside it. Export the film again, or photograph it on the screen.`,
    way: ANOTHER,
  }),
  function: (details) => ({ title: "An unknown VOI LUT function", text: `${say(details)} LINEAR, LINEAR_EXACT and SIGMOID are read. ${EXPORT}`, way: ANOTHER }),
  blank: () => ({
    title: "Nothing to see here",
    text: "The film is one even shade: nothing can be seen on it. Check that the right film was chosen, or that it is on the screen and nothing covers the lens.",
    way: "Try again",
  }),
  codecs: () => ({
    title: "The decoder can't be reached",
    text: "This film is compressed, and what decodes it could not be loaded. Connect to the network where this app comes from, and try again.",
    way: "Try again",
  }),
  corners: () => ({ title: "The outline crosses itself", text: "Put each handle on its own corner of the film.", way: "Adjust the corners" }),
  memory: () => ({ title: "Not enough memory", text: "This device could not hold the picture. Close other apps, or choose a smaller one.", way: ANOTHER }),
  clipboard: () => ({ title: "No picture on the clipboard", text: "Copy a picture first, and allow the app to see it. Choosing a file always works.", way: ANOTHER }),
  camera: () => ({
    title: "The camera is not available",
    text: "It was refused, or another app uses it. Allow it in the browser's settings, take the photo with the phone's camera app, or choose a file.",
    way: "Choose a file instead",
  }),
  failed: ({ message } = {}) => ({ title: "That did not work", text: `The app met something unforeseen${message ? `: ${message}` : "."}`, way: "Try again" }),
  tampered: ({ reason }) => ({
    title: "The model is not genuine",
    text: `It does not match its own record, so it is not used: ${reason}. Ask whoever gave you this address to export it again.`,
    way: "Try again",
  }),
  runtime: ({ reason }) => ({
    title: "A part of this app is not the right one",
    text: `What runs the model was changed or is of another version, so it is not used: ${reason}.`,
    way: "Try again",
  }),
  memoryOfModel: () => ({
    title: "Not enough memory",
    text: "This device could not hold the model. Close other apps and other pages of the browser, then try again.",
    way: "Try again",
  }),
  disagrees: ({ rejected }) => ({
    title: "This device answers differently",
    text:
      "On the model's own test films its answers are not the ones they must be, so none is shown. " +
      `${rejected.map(({ way, reason }) => `${way}: ${reason}`).join("; ")}. Update the browser and the system, or use another device.`,
    way: "Try again",
  }),
  unreachable: () => ({ title: "The model can't be reached", text: "Connect to the network where this app comes from, and try again.", way: "Try again" }),
  unsupported: () => ({
    title: "This browser is too old",
    text: "It lacks fast WebAssembly (SIMD), which the model needs. Update it: Chrome or Edge 91, Firefox 89, Safari 16.4 or newer.",
    way: "Try again",
  }),
};

/** @returns {string} a share as a percentage that never claims certainty */
export function percent(share) {
  if (share > 0.99) return "over 99 %";
  return share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}
