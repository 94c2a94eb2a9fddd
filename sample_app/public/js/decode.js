/** A file's bytes, or a camera's picture, become gray levels: "Gray levels" of docs/canvas.md. */
import { isDicom, readDicom } from "./dicom.js";
import { isDeepPng, readDeepPng } from "./png.js";
import { Problem } from "./problems.js";

/** A picture with more pixels is refused before memory is spent on it. */
const MAX_PIXELS = 80e6;
/** Rows drawn at a time: phones limit the area of a canvas. */
const BAND = 256;
const PNG = [0x89, 0x50, 0x4e, 0x47];
const JPEG = [0xff, 0xd8, 0xff];

/**
 * @param {Blob | ImageBitmap} source a file of DICOM, PNG or JPEG, or what the camera saw
 * @returns {Promise<import("./canvas.js").Film & { view: string | null, coloured: boolean }>} `coloured`: it is no plain gray film
 * @throws {Problem}
 */
export async function decode(source) {
  if (source instanceof ImageBitmap) return { ...toGray(source), view: null, coloured: true };
  if (source.size === 0) throw new Problem("empty");
  const bytes = new Uint8Array(await source.arrayBuffer());
  if (startsWith(bytes, PNG) || startsWith(bytes, JPEG)) return readPicture(bytes);
  if (isDicom(bytes)) return { ...readDicom(bytes), coloured: false };
  throw new Problem("unknown");
}

async function readPicture(bytes) {
  const [kind, size] = startsWith(bytes, PNG) ? ["PNG", measurePng(bytes)] : ["JPEG", measureJpeg(bytes)];
  if (!size) throw new Problem("damaged", { kind });
  if (size.width * size.height > MAX_PIXELS) throw new Problem("large", size);
  if (kind === "PNG" && isDeepPng(bytes)) return { ...(await readDeepPng(bytes)), view: null, coloured: false };
  let bitmap;
  try {
    const blob = new Blob([bytes], { type: kind === "PNG" ? "image/png" : "image/jpeg" });
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Problem("damaged", { kind });
  }
  return { ...toGray(bitmap), view: null };
}

/** Luminance (ITU-R 601) on black, a band of rows at a time; frees the bitmap. */
function toGray(bitmap) {
  const { width, height } = bitmap;
  const pixels = new Uint8Array(width * height);
  const rows = Math.min(BAND, height);
  const context = new OffscreenCanvas(width, rows).getContext("2d", { alpha: false, willReadFrequently: true });
  let tinted = 0;
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillRect(0, 0, width, rows); // what is transparent lies on black
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, count);
    for (let from = 0, to = top * width; from < data.length; from += 4, to++) {
      const [red, green, blue] = [data[from], data[from + 1], data[from + 2]];
      pixels[to] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
      if (Math.abs(red - green) + Math.abs(blue - green) > 6) tinted++;
    }
  }
  bitmap.close();
  return { pixels, width, height, coloured: tinted > 0.001 * pixels.length };
}

const startsWith = (bytes, head) => head.every((byte, index) => bytes[index] === byte);

function measurePng(bytes) {
  if (bytes.length < 33) return null;
  const view = new DataView(bytes.buffer);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

/** The size in the frame header, before the pixels are decoded. */
function measureJpeg(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) return null;
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++;
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}
