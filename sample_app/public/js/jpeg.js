/**
 * The segments of JPEG and JPEG-LS streams (ITU-T T.81 B, T.87 C), read before a decoder sees them. Stray bytes between segments, which old
 * scanners leave, are skipped.
 *
 * @typedef {object} Frame what the frame header says
 * @property {number} process n of the marker SOFn: 0 baseline, 1 extended, 2 progressive, 3 lossless, 55 JPEG-LS
 * @property {number} bits a sample
 * @property {number} height
 * @property {number} width
 * @property {number} components
 * @property {number} near JPEG-LS: the largest error
 *
 * @typedef {object} Segment
 * @property {number} marker its second byte
 * @property {Uint8Array} bytes with the marker; of a scan with all its data
 */
import { Problem } from "./problems.js";

const START = 0xd8;
const END = 0xd9;
const SCAN = 0xda;
const SOF55 = 0xf7;
/** In the range of the frame headers, but tables. */
const TABLES = [0xc4, 0xc8, 0xcc];

const isRestart = (marker) => marker >= 0xd0 && marker <= 0xd7;

/**
 * @param {Uint8Array} bytes that begin with FF D8
 * @returns {Segment[]} up to and with the end of the image
 * @throws {Problem} damaged: it ends before
 */
export function readSegments(bytes) {
  const segments = [];
  let hasScan = false;
  for (let at = 2; at + 2 <= bytes.length; ) {
    const marker = bytes[at + 1];
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    // below C0 no marker has a segment, restarts belong into scans, and a length counts itself
    if (bytes[at] !== 0xff || marker < 0xc0 || marker === 0xff || marker === START || isRestart(marker) || (marker !== END && length < 2)) {
      at++;
      continue;
    }
    if (marker === END) {
      if (!hasScan) break;
      return [...segments, { marker, bytes: bytes.subarray(at, at + 2) }];
    }
    let end = at + 2 + length;
    if (marker === SCAN) {
      hasScan = true;
      while (end + 1 < bytes.length && !(bytes[end] === 0xff && isEndOfScan(bytes[end + 1]))) end++;
    }
    if (end > bytes.length) break;
    segments.push({ marker, bytes: bytes.subarray(at, end) });
    at = end;
  }
  throw new Problem("damaged", { found: "its JPEG stream ends early" });
}

const isEndOfScan = (marker) => marker >= 0xc0 && marker !== 0xff && !isRestart(marker);

/**
 * @param {Segment[]} segments
 * @returns {Frame}
 * @throws {Problem} damaged: there is none
 */
export function readFrame(segments) {
  const isFrame = ({ marker }) => marker === SOF55 || (marker >= 0xc0 && marker <= 0xcf && !TABLES.includes(marker));
  const found = segments.find(isFrame);
  if (!found || found.bytes.length < 10) throw new Problem("damaged", { found: "its JPEG stream has no frame header" });
  const view = new DataView(found.bytes.buffer, found.bytes.byteOffset);
  const scan = segments.find(({ marker }) => marker === SCAN).bytes;
  return {
    process: found.marker - 0xc0,
    bits: view.getUint8(4),
    height: view.getUint16(5),
    width: view.getUint16(7),
    components: view.getUint8(9),
    near: found.marker === SOF55 ? scan[5 + 2 * scan[4]] : 0,
  };
}

/** @param {Segment[]} segments @returns {Uint8Array} a stream of these segments and nothing between them */
export function joinSegments(segments) {
  const parts = [Uint8Array.of(0xff, START), ...segments.map(({ bytes }) => bytes)];
  return joinParts(parts);
}

/** @param {Uint8Array[]} parts @returns {Uint8Array} one after the other */
export function joinParts(parts) {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
