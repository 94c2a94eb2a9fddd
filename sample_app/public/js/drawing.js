/** Films with what the model saw, and the picture of an answer to share. */
import { nameView } from "./words.js";

const BOX = "#8fd0f5";
const INK = { ground: "#0a0d11", surface: "#12171d", raised: "#1b222a", text: "#eef2f6", muted: "#a9b5c1", accent: "#8fd0f5", bar: "#5b6a78" };
const WIDTH = 1080;

/**
 * Draw a film with box and heat map.
 *
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas gets the size of the film's bitmap
 * @param {object} looked
 * @param {ImageBitmap} looked.bitmap
 * @param {[number, number, number, number] | null} looked.box shares of width and height
 * @param {{ values: Float32Array, rows: number, columns: number, place: [number, number, number, number] } | null} looked.heat `place`, of
 *   the crop that it covers, like `box`, but perhaps beyond the film
 * @param {{ box: boolean, heat: boolean }} layers
 */
export function drawFilm(canvas, { bitmap, box, heat }, layers) {
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const span = ([x0, y0, x1, y1]) => [x0 * canvas.width, y0 * canvas.height, (x1 - x0) * canvas.width, (y1 - y0) * canvas.height];
  if (layers.heat && heat) context.drawImage(colour(heat), ...span(heat.place));
  if (layers.box && box) {
    context.lineWidth = Math.max(2, canvas.width / 200);
    context.strokeStyle = BOX;
    context.strokeRect(...span(box));
  }
}

/** From clear over amber to near white; a browser smooths it when it is enlarged. */
function colour({ values, rows, columns }) {
  const image = new ImageData(columns, rows);
  values.forEach((value, index) => image.data.set([255, 150 + 90 * value, 60 * value, 150 * value ** 1.5], 4 * index));
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/**
 * Draw an answer to share. Drawn anew, so it carries nothing of the files that the films came from.
 *
 * @param {object} answer as main.js makes it
 * @param {boolean} withFilms
 * @returns {Promise<Blob>} PNG
 */
export async function drawAnswer(answer, withFilms) {
  const films = withFilms ? answer.looked : [];
  const filmWidth = (WIDTH - 128 - 24 * (films.length - 1)) / Math.max(1, films.length);
  const filmHeight = Math.max(0, ...films.map(({ bitmap }) => (filmWidth * bitmap.height) / bitmap.width));
  const canvas = new OffscreenCanvas(WIDTH, 620 + 74 * answer.ranking.length + (films.length ? filmHeight + 90 : 0));
  const context = canvas.getContext("2d");
  const write = (text, x, y, font, ink) => {
    context.font = `${font} system-ui, sans-serif`;
    context.fillStyle = ink;
    context.fillText(text, x, y);
  };
  context.fillStyle = INK.ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  write(fit(context, answer.model.task.question, "400 30px", WIDTH - 128), 64, 60, "400 30px", INK.muted);
  write(answer.words.label, 64, 110, "600 36px", INK.accent);
  write(fit(context, answer.words.title, "700 76px", WIDTH - 128), 64, 200, "700 76px", INK.text);
  let y = 230 + writeLines(context, answer.words.text, 64, 262, WIDTH - 128);
  for (const { brand, share, text, fits } of answer.ranking) {
    write(brand, 64, (y += 50), fits ? "600 32px" : "400 32px", fits ? INK.text : INK.muted);
    context.textAlign = "right";
    write(text, WIDTH - 64, y, "400 32px", fits ? INK.text : INK.muted);
    context.textAlign = "left";
    fillBar(context, y + 14, 1, INK.raised);
    fillBar(context, y + 14, share, fits ? INK.accent : INK.bar);
    y += 24;
  }
  y += 50;
  for (const [n, looked] of films.entries()) {
    const drawn = new OffscreenCanvas(1, 1);
    drawFilm(drawn, looked, { box: true, heat: false });
    const left = 64 + n * (filmWidth + 24);
    context.drawImage(drawn, left, y, filmWidth, (filmWidth * drawn.height) / drawn.width);
    write(nameView(looked.view), left, y + filmHeight + 40, "400 30px", INK.muted);
  }
  if (films.length) y += filmHeight + 90;
  y += writeLines(context, `edgekit · ${answer.model.name} · version ${answer.model.version}`, 64, y + 20, WIDTH - 128);
  writeLines(context, answer.model.intendedUse, 64, y + 30, WIDTH - 128);
  return canvas.convertToBlob({ type: "image/png" });
}

function fillBar(context, y, share, ink) {
  context.fillStyle = ink;
  context.beginPath();
  context.roundRect(64, y, Math.max(8, (WIDTH - 128) * share), 10, 5);
  context.fill();
}

/** Shorten a line until it fits. */
function fit(context, text, font, width) {
  context.font = `${font} system-ui, sans-serif`;
  while (text.length > 4 && context.measureText(text).width > width) text = `${text.slice(0, -2).trimEnd()}…`;
  return text;
}

/** Write a paragraph. @returns {number} its height */
function writeLines(context, text, x, y, width) {
  context.font = "400 32px system-ui, sans-serif";
  context.fillStyle = INK.muted;
  let line = "";
  let height = 0;
  for (const word of text.split(" ")) {
    if (line && context.measureText(`${line} ${word}`).width > width) {
      context.fillText(line, x, y + height);
      height += 44;
      line = word;
    } else {
      line = line ? `${line} ${word}` : word;
    }
  }
  context.fillText(line, x, y + height);
  return height + 44;
}
