/** PNG with 16 bits of gray, which browsers cut down to 8 before anybody can window them. */
import { Problem } from "./problems.js";
import { toByte, windowPercentiles } from "./window.js";

/** @returns {boolean} whether the file is a 16-bit grayscale PNG without interlacing */
export function isDeepPng(bytes) {
  return bytes[24] === 16 && bytes[25] === 0 && bytes[28] === 0;
}

/** @returns {Promise<import("./canvas.js").Film>} through the percentile window */
export async function readDeepPng(bytes) {
  const view = new DataView(bytes.buffer);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  let raw;
  try {
    const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    raw = new Uint8Array(await new Response(inflated).arrayBuffer());
  } catch {
    throw new Problem("damaged", { kind: "PNG" });
  }
  const stride = 2 * width;
  if (raw.length < height * (stride + 1)) throw new Problem("damaged", { kind: "PNG" });
  const lines = unfilter(raw, stride, height);
  const stored = Uint16Array.from({ length: width * height }, (_, i) => (lines[2 * i] << 8) | lines[2 * i + 1]);
  const counts = new Uint32Array(1 << 16);
  for (const value of stored) counts[value]++;
  const gray = windowPercentiles(Float64Array.from(counts.keys()), counts);
  return { pixels: Uint8Array.from(stored, (value) => toByte(gray[value])), width, height };
}

/** Undo the filters of the lines (PNG specification, 9.2), two bytes a pixel. */
function unfilter(raw, stride, height) {
  const lines = new Uint8Array(stride * height);
  for (let row = 0; row < height; row++) {
    const filter = raw[row * (stride + 1)];
    for (let i = 0; i < stride; i++) {
      const at = row * stride + i;
      const left = i >= 2 ? lines[at - 2] : 0;
      const up = row > 0 ? lines[at - stride] : 0;
      const corner = i >= 2 && row > 0 ? lines[at - stride - 2] : 0;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      lines[at] = raw[row * (stride + 1) + 1 + i] + guess;
    }
  }
  return lines;
}

function paeth(left, up, corner) {
  const estimate = left + up - corner;
  const [a, b, c] = [Math.abs(estimate - left), Math.abs(estimate - up), Math.abs(estimate - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
