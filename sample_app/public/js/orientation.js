/** The orientation of a picture, as its metadata say: EXIF's where there is one, else XMP's. It is applied here, not by the browser. */

const ORIENTATION = 0x0112;
const SHORT = 3;

/**
 * @param {{ exif: Uint8Array | null, xmp: Uint8Array | null }} metadata a TIFF header with its first directory, and an XMP packet
 * @returns {number} 1 to 8 (EXIF 2.3, 4.6.4): 1 where nothing is said
 */
export function findOrientation({ exif, xmp }) {
  return (exif && readExif(exif)) || (xmp && readXmp(xmp)) || 1;
}

/** @returns {number} 0 where it isn't said */
function readExif(bytes) {
  if (bytes.length < 14) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = bytes[0] === 0x49;
  if (![0x4949, 0x4d4d].includes(view.getUint16(0)) || view.getUint16(2, little) !== 42) return 0;
  const start = view.getUint32(4, little);
  const count = start + 2 <= bytes.length ? view.getUint16(start, little) : 0;
  for (let at = start + 2, n = 0; n < count && at + 12 <= bytes.length; n++, at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const value = view.getUint16(at + 2, little) === SHORT ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    return value >= 1 && value <= 8 ? value : 0;
  }
  return 0;
}

function readXmp(bytes) {
  const found = /tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\s*["'<]/.exec(new TextDecoder().decode(bytes));
  return found ? Number(found[1]) : 0;
}

/**
 * @param {import("./canvas.js").Film} film as it is stored
 * @param {number} orientation 1 to 8: what its first row and column are
 * @returns {import("./canvas.js").Film} as it is meant
 */
export function orient(film, orientation) {
  if (orientation === 1) return film;
  const { pixels, width, height } = film;
  const isTurned = orientation >= 5; // the first row is a side
  const [fromRight, fromBottom] = [[2, 3, 7, 8].includes(orientation), [3, 4, 6, 7].includes(orientation)];
  const [columnStep, rowStep] = [fromRight ? -1 : 1, fromBottom ? -width : width];
  const start = (fromRight ? width - 1 : 0) + (fromBottom ? (height - 1) * width : 0);
  const [across, down] = isTurned ? [rowStep, columnStep] : [columnStep, rowStep];
  const size = isTurned ? { width: height, height: width } : { width, height };
  const upright = new Uint8Array(pixels.length);
  for (let row = 0, to = 0; row < size.height; row++) {
    for (let column = 0, from = start + row * down; column < size.width; column++, from += across) upright[to++] = pixels[from];
  }
  return { pixels: upright, ...size };
}
