/**
 * A worker with the pictures: it decodes them, straightens the film in them, and makes canvases. A picture never leaves the device;
 * it is dropped when the page says so.
 */
import { makeCanvas, resample } from "./canvas.js";
import { checkContrast } from "./contrast.js";
import { decode } from "./decode.js";
import { chooseSize, isConvex, straighten, turn } from "./perspective.js";
import { Problem } from "./problems.js";
import { answerCalls } from "./workers.js";

/** Long side of what is shown, pixels. */
const PREVIEW = 1280;

const pictures = new Map();
const films = new Map();
let latest = 0;

answerCalls({
  /** Decode a file or a camera's picture. */
  async open({ source }) {
    const picture = await decode(source);
    const id = ++latest;
    pictures.set(id, picture);
    return { id, coloured: picture.coloured, view: picture.view, ...show(picture) };
  },

  /** The canvas of a part of a picture, on which the reader looks for the film. */
  survey: ({ id, side, part }) => makeCanvas(cut(pictures.get(id), part), side),

  /** Turn a picture a quarter clockwise. */
  turn({ id }) {
    const picture = { ...pictures.get(id), ...turn(pictures.get(id)) };
    pictures.set(id, picture);
    return show(picture);
  },

  /** Take the film out of a picture: all of it, or what lies between four corners. */
  develop({ id, corners }) {
    const picture = pictures.get(id);
    if (corners && !isConvex(corners)) throw new Problem("corners");
    const film = corners ? straighten(picture, corners, chooseSize(corners, picture)) : picture;
    checkContrast(film.pixels);
    films.set(id, film);
    return show(film);
  },

  /** The canvas of a developed film. */
  canvas: ({ id, side }) => makeCanvas(films.get(id), side),

  /** Forget a picture and its film. */
  drop({ id }) {
    pictures.delete(id);
    films.delete(id);
    return {};
  },
});

/** What the page shows of a film: a bitmap, and the film's own size. */
function show(film) {
  const scale = Math.min(1, PREVIEW / Math.max(film.width, film.height));
  const [width, height] = [Math.max(1, Math.round(film.width * scale)), Math.max(1, Math.round(film.height * scale))];
  const { pixels } = scale < 1 ? resample(film, width, height) : film;
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = 0xff000000 | (pixels[i] * 0x010101);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { width: film.width, height: film.height, bitmap: canvas.transferToImageBitmap() };
}

function cut({ pixels, width: across }, { left, top, width, height }) {
  const part = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const start = (top + row) * across + left;
    part.set(pixels.subarray(start, start + width), row * width);
  }
  return { pixels: part, width, height };
}
