/** One screen at a time. The films are home; every other screen is one step of the browser's history away from it. */

const HOME = "films";

let current = HOME;
let whenLeft = null;

export const find = (id) => document.getElementById(id);

/**
 * Show a screen.
 *
 * @param {string} name id of its section
 * @param {() => void} [left] called when the user goes back
 */
export function enter(name, left = null) {
  if (current === HOME) history.pushState({ screen: name }, "");
  show(name, left);
}

/** Show home, once there is something on it. */
export function reveal() {
  find(HOME).hidden = current !== HOME;
}

/** Go home. */
export function leave() {
  if (current === HOME) return;
  show(HOME);
  history.back();
}

/** Start at home, also after a reload on another screen. */
export function begin() {
  history.replaceState(null, "");
  addEventListener("popstate", () => {
    if (current === HOME) return;
    const left = whenLeft;
    show(HOME);
    left?.();
  });
  find("back").addEventListener("click", () => history.back());
}

/** Show that the app can't go on; nothing leads back. */
export function stop() {
  show("stopped");
  find("back").hidden = true;
}

function show(name, left = null) {
  find(current).hidden = true;
  find(name).hidden = false;
  current = name;
  whenLeft = left;
  find("back").hidden = name === HOME;
  scrollTo(0, 0);
  find(name).querySelector("h1").focus({ preventScroll: true });
}

/** Close a dialog by its own buttons, or by a touch beside it. */
export function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
}

/**
 * A message over the screen, with a way on.
 *
 * @param {string} text
 * @param {string} action what the button says
 * @param {() => void} act
 */
export function toast(text, action, act) {
  const box = document.createElement("div");
  box.className = "toast";
  const words = document.createElement("p");
  words.textContent = text;
  const button = (label, kind, then) => {
    const made = Object.assign(document.createElement("button"), { type: "button", className: kind, textContent: label });
    made.addEventListener("click", () => {
      box.remove();
      then();
    });
    return made;
  };
  box.append(words, button(action, "", act), button("Later", "plain", () => {}));
  find("toasts").replaceChildren(box);
}
