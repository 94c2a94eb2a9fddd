/** RLE Lossless of DICOM: a segment of packed bytes for each byte of a pixel, the high ones first (PS3.5 G). */
import { Problem } from "./problems.js";

/**
 * @param {Uint8Array} frame with its header, which announces one or two segments
 * @param {number} count pixels
 * @returns {Uint8Array | Uint16Array}
 * @throws {Problem} damaged
 */
export function unpackRle(frame, count) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const segments = frame[0];
  if (frame.length < 64) throw new Problem("damaged", { found: "its RLE stream ends early" });
  const offset = (n) => (n < segments ? view.getUint32(4 + 4 * n, true) : frame.length);
  const planes = Array.from({ length: segments }, (_, n) => {
    if (offset(n) < 64 || offset(n) >= offset(n + 1)) throw new Problem("damaged", { found: "its RLE header contradicts itself" });
    return unpack(frame.subarray(offset(n), offset(n + 1)), count);
  });
  if (segments === 1) return planes[0];
  const pixels = new Uint16Array(count);
  for (let i = 0; i < count; i++) pixels[i] = (planes[0][i] << 8) | planes[1][i];
  return pixels;
}

/** PackBits (PS3.5 G.3.2). */
function unpack(packed, count) {
  const bytes = new Uint8Array(count);
  let to = 0;
  for (let at = 0; at < packed.length && to < count; ) {
    const head = packed[at++];
    if (head < 128) {
      const run = packed.subarray(at, at + Math.min(head + 1, count - to));
      bytes.set(run, to);
      at += head + 1;
      to += run.length;
    } else if (head > 128 && at < packed.length) {
      const length = 257 - head;
      bytes.fill(packed[at++], to, Math.min(count, to + length));
      to += length;
    }
  }
  if (to < count) throw new Problem("damaged", { found: "a segment of its RLE stream ends early" });
  return bytes;
}
