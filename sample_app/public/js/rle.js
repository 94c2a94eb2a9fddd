/** RLE Lossless of DICOM: a segment of packed bytes for each byte of a pixel, the high ones first (PS3.5 G). */
import { Problem } from "./problems.js";

/**
 * @param {Uint8Array} frame with its header
 * @param {number} count pixels
 * @param {boolean} wide whether a pixel has two bytes
 * @returns {Uint8Array | Uint16Array}
 */
export function unpackRle(frame, count, wide) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const segments = view.getUint32(0, true);
  if (segments !== (wide ? 2 : 1)) throw new Problem("damaged", { kind: "DICOM" });
  const offset = (n) => (n < segments ? view.getUint32(4 + 4 * n, true) : frame.length);
  const planes = Array.from({ length: segments }, (_, n) => unpack(frame.subarray(offset(n), offset(n + 1)), count));
  if (!wide) return planes[0];
  return Uint16Array.from(planes[0], (high, index) => (high << 8) | planes[1][index]);
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
    } else if (head > 128) {
      const length = 257 - head;
      bytes.fill(packed[at++], to, Math.min(count, to + length));
      to += length;
    }
  }
  if (to < count) throw new Problem("damaged", { kind: "DICOM" });
  return bytes;
}
