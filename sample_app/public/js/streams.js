/**
 * Compressed pixel data: which fragments are the first frame, and what its stream says of itself before it is decoded. "DICOM: the stored
 * values" of docs/canvas.md.
 *
 * @typedef {object} Stream
 * @property {"JPEG" | "JPEG lossless" | "JPEG-LS" | "JPEG 2000" | "RLE"} coding
 * @property {Uint8Array} bytes for its decoder
 * @property {number | null} width pixels; null where the stream doesn't say
 * @property {number | null} height
 * @property {number} components samples a pixel
 * @property {number} bits a sample
 * @property {boolean} signed whether its samples have a sign of their own
 * @property {boolean} isLossy
 */
import { ITEM, label, PIXEL_DATA, TRANSFER_SYNTAX, UNDEFINED } from "./dataset.js";
import { joinParts, joinSegments, readFrame, readSegments } from "./jpeg.js";
import { Problem } from "./problems.js";

/** What the compressed transfer syntaxes that are read announce (PS3.5 10). */
export const CODINGS = {
  "1.2.840.10008.1.2.4.50": "JPEG",
  "1.2.840.10008.1.2.4.51": "JPEG",
  "1.2.840.10008.1.2.4.57": "JPEG lossless",
  "1.2.840.10008.1.2.4.70": "JPEG lossless",
  "1.2.840.10008.1.2.4.80": "JPEG-LS",
  "1.2.840.10008.1.2.4.81": "JPEG-LS",
  "1.2.840.10008.1.2.4.90": "JPEG 2000",
  "1.2.840.10008.1.2.4.91": "JPEG 2000",
  "1.2.840.10008.1.2.4.201": "JPEG 2000",
  "1.2.840.10008.1.2.4.202": "JPEG 2000",
  "1.2.840.10008.1.2.4.203": "JPEG 2000",
  "1.2.840.10008.1.2.5": "RLE",
};
const LOSSY = [50, 51, 81, 91, 203].map((number) => `1.2.840.10008.1.2.4.${number}`);
const PROCESSES = { 0: "JPEG", 1: "JPEG", 2: "JPEG", 3: "JPEG lossless", 55: "JPEG-LS" };
const JP2 = [0x00, 0x00, 0x00, 0x0c, 0x6a, 0x50];
const CODESTREAM = [0xff, 0x4f, 0xff, 0x51];

const beginsWith = (bytes, head) => head.every((byte, index) => bytes[index] === byte);
const beginsRle = (bytes) => [1, 2].some((segments) => beginsWith(bytes, [segments, 0, 0, 0, 64, 0, 0, 0]));
const beginsStream = (bytes) => beginsWith(bytes, [0xff, 0xd8, 0xff]) || beginsWith(bytes, CODESTREAM) || beginsWith(bytes, JP2) || beginsRle(bytes);

/**
 * @param {import("./dataset.js").DataSet} set
 * @param {string} syntax its Transfer Syntax UID
 * @returns {boolean} whether its pixel data are in fragments
 */
export function isCompressed(set, syntax) {
  const { at, length } = set.elements.get(PIXEL_DATA.tag);
  return length === UNDEFINED || (length >= 4 && syntax in CODINGS && set.view.getUint16(at) === 0xfeff && set.view.getUint16(at + 2) === 0x00e0);
}

/**
 * The first frame's stream (PS3.5 A.4).
 *
 * @param {import("./dataset.js").DataSet} set
 * @param {string} syntax
 * @returns {Stream}
 * @throws {Problem} damaged, syntax
 */
export function readStream(set, syntax) {
  const bytes = joinFragments(set);
  const stream = inspect(bytes);
  if (!stream && syntax in CODINGS && !beginsWith(bytes, [0xff, 0xd8])) throw new Problem("damaged", { found: `its pixel data are no ${CODINGS[syntax]} stream` });
  if (!stream) throw new Problem("syntax", { element: label(TRANSFER_SYNTAX), found: syntax || "missing" });
  return { ...stream, isLossy: stream.isLossy || (CODINGS[syntax] === stream.coding && LOSSY.includes(syntax)) };
}

function joinFragments(set) {
  const { view, bytes } = set;
  const { at: start, length: size } = set.elements.get(PIXEL_DATA.tag);
  const end = size === UNDEFINED ? bytes.length : start + size;
  let [fragments, hasBegun] = [[], false];
  // fragments are little endian, whatever comes before them
  for (let at = start; at + 4 <= end; ) {
    if (view.getUint16(at, true) * 0x10000 + view.getUint16(at + 2, true) !== ITEM) break;
    const length = at + 8 <= end ? view.getUint32(at + 4, true) : Infinity;
    at += 8;
    if (at + length > end) throw new Problem("damaged", { found: "it ends inside a fragment of its pixel data" });
    const fragment = bytes.subarray(at, at + length);
    if (beginsStream(fragment)) {
      if (hasBegun) break; // another frame
      [fragments, hasBegun] = [[fragment], true];
    } else if (at > start + 8) fragments.push(fragment); // the first is the offset table, unless that was left out
    at += length;
  }
  if (fragments.length === 0) throw new Problem("damaged", { found: "its pixel data hold no fragment" });
  return joinParts(fragments);
}

/** @returns {Stream | null} null when it is of a kind that isn't read */
function inspect(bytes) {
  if (beginsWith(bytes, [0xff, 0xd8])) return inspectJpeg(bytes);
  if (beginsWith(bytes, CODESTREAM) || beginsWith(bytes, JP2)) return inspectJpeg2000(bytes);
  if (!beginsRle(bytes)) return null;
  return { coding: "RLE", bytes, width: null, height: null, components: 1, bits: 8 * bytes[0], signed: false, isLossy: false };
}

function inspectJpeg(bytes) {
  const segments = readSegments(bytes);
  const { process, bits, width, height, components, near } = readFrame(segments);
  const coding = PROCESSES[process];
  if (!coding || (coding === "JPEG" && bits !== 8 && bits !== 12)) return null;
  return { coding, bytes: joinSegments(segments), width, height, components, bits, signed: false, isLossy: coding === "JPEG" || near > 0 };
}

/** The segments SIZ and COD (ITU-T T.800 A.5.1, A.6.1). */
function inspectJpeg2000(file) {
  const bytes = beginsWith(file, JP2) ? findCodestream(file) : file;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const endsEarly = () => new Problem("damaged", { found: "its JPEG 2000 stream ends early" });
  if (bytes.length < 45 || !beginsWith(bytes, CODESTREAM)) throw endsEarly();
  if (view.getUint16(40) === 1 && (bytes[43] !== 1 || bytes[44] !== 1)) throw new Problem("damaged", { found: "its JPEG 2000 stream leaves pixels out" });
  const depth = view.getUint8(42);
  let isReversible = null;
  for (let at = 2; isReversible === null; at += 2 + view.getUint16(at + 2)) {
    if (at + 14 > bytes.length || bytes[at] !== 0xff || view.getUint16(at + 2) < 2) throw endsEarly();
    if (bytes[at + 1] === 0x52) isReversible = bytes[at + 13] === 1;
  }
  return {
    coding: "JPEG 2000",
    bytes,
    width: view.getUint32(8) - view.getUint32(16),
    height: view.getUint32(12) - view.getUint32(20),
    components: view.getUint16(40),
    bits: (depth & 0x7f) + 1,
    signed: depth > 0x7f,
    isLossy: !isReversible,
  };
}

/** The content of the box jp2c (T.800 I.5.4); empty when there is none. */
function findCodestream(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  for (let at = 0; at + 8 <= file.length; ) {
    const size = view.getUint32(at);
    const isLong = size === 1 && at + 16 <= file.length;
    const length = isLong ? Number(view.getBigUint64(at + 8)) : size;
    const head = isLong ? 16 : 8;
    if (view.getUint32(at + 4) === 0x6a703263) return file.subarray(at + head, length === 0 ? file.length : at + length);
    if (length < head) break;
    at += length;
  }
  return new Uint8Array(0);
}
