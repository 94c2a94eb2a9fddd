/** A file's bytes, or a camera's picture, become gray levels: section 1 of docs/canvas.md. */
import { checkContrast } from "./contrast.js";
import { decodeApart } from "./decoding.js";
import { isDicom, readDicom } from "./dicom.js";
import { joinSegments, readFrame, readSegments } from "./jpeg.js";
import { findOrientation, orient } from "./orientation.js";
import { readPng } from "./png.js";
import { checkSize, Problem } from "./problems.js";
import { isColoured, isTinted, toLuminance } from "./window.js";

/** Rows drawn at a time: phones limit the area of a canvas. */
const BAND = 256;
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];
const [APP0, APP1, APP14, APP15] = [0xe0, 0xe1, 0xee, 0xef];

/**
 * @param {Blob | ImageBitmap} source a file of DICOM, PNG or JPEG, or what the camera saw
 * @returns {Promise<import("./canvas.js").Film & { view: string | null, coloured: boolean }>} `coloured`: it is no plain gray film
 * @throws {Problem}
 */
export async function decode(source) {
  if (!(source instanceof Blob)) return checked({ ...toGray(source), view: null, coloured: true });
  try {
    return await decodeBytes(new Uint8Array(await source.arrayBuffer()), decodeApart);
  } catch (error) {
    if (error instanceof Problem && source.name) error.details.file = source.name;
    throw error;
  }
}

/**
 * @param {Uint8Array} bytes the file
 * @param {typeof decodeApart} decodeStream called when a DICOM film is compressed
 * @returns {ReturnType<typeof decode>}
 * @throws {Problem}
 */
export async function decodeBytes(bytes, decodeStream) {
  const begins = (head) => head.every((byte, index) => bytes[index] === byte);
  if (bytes.length === 0) throw new Problem("empty");
  if (begins(PNG)) return checked({ ...readPng(bytes), view: null });
  if (begins(JPEG)) return checked({ ...(await readJpeg(bytes)), view: null });
  if (isDicom(bytes)) return checked({ ...(await readDicom(bytes, decodeStream)), coloured: false });
  throw new Problem("unknown");
}

function checked(film) {
  checkContrast(film.pixels);
  return film;
}

/** The browser decodes it, without what it would turn or colour it by: only its own markers (JFIF, Adobe) are left. */
async function readJpeg(bytes) {
  const segments = readSegments(bytes);
  const frame = readFrame(segments);
  if (frame.process > 2 || frame.bits !== 8) throw new Problem("syntax", { found: `it is a JPEG of process ${frame.process} and ${frame.bits} bits` });
  checkSize(frame);
  const plain = segments.filter(({ marker }) => marker < APP0 || marker > APP15 || marker === APP0 || marker === APP14);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([joinSegments(plain)], { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  } catch {
    throw new Problem("damaged", { found: "its JPEG stream can't be decoded" });
  }
  const { coloured, ...film } = toGray(bitmap);
  return { ...orient(film, findOrientation(findMetadata(segments))), coloured };
}

function findMetadata(segments) {
  const find = (name) => {
    const head = [...name].map((letter) => letter.charCodeAt(0));
    const found = segments.find(({ marker, bytes }) => marker === APP1 && head.every((byte, index) => bytes[4 + index] === byte));
    return found?.bytes.subarray(4 + head.length) ?? null;
  };
  return { exif: find("Exif\0\0"), xmp: find("http://ns.adobe.com/xap/1.0/\0") };
}

/** Luminance on black, a band of rows at a time; frees the bitmap. */
function toGray(bitmap) {
  const { width, height } = bitmap;
  const pixels = new Uint8Array(width * height);
  const rows = Math.min(BAND, height);
  const context = new OffscreenCanvas(width, rows).getContext("2d", { alpha: false, willReadFrequently: true });
  let tinted = 0;
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, count);
    for (let from = 0, to = top * width; from < data.length; from += 4, to++) {
      pixels[to] = toLuminance(data[from], data[from + 1], data[from + 2]);
      if (isTinted(data[from], data[from + 1], data[from + 2])) tinted++;
    }
  }
  bitmap.close();
  return { pixels, width, height, coloured: isColoured(tinted, pixels.length) };
}
