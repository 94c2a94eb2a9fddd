/** DICOM films: what is read and what is refused, in the order of docs/canvas.md, and the way from stored values to gray levels. */
import * as tags from "./dataset.js";
import { DataSet, isExplicit, isLittle, isSwapped, label } from "./dataset.js";
import { inflate } from "./inflate.js";
import { joinParts } from "./jpeg.js";
import { readTable } from "./lookup.js";
import { checkSize, Problem } from "./problems.js";
import { unpackRle } from "./rle.js";
import { isCompressed, readStream } from "./streams.js";
import { clip, toByte, windowPercentiles } from "./window.js";

/** Projection radiographs, and objects that don't say what they are (Modality, PS3.3 C.7.3.1.1.1). */
const MODALITIES = ["CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX", "OT", "SC", ""];
const VIEWS = { AP: "ap", PA: "ap", LL: "lateral", RL: "lateral", LAT: "lateral", LATERAL: "lateral" };
/** Their Modality LUT leads back to X-ray intensity. */
const RAW_INTENSITY = ["XA", "RF", "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"];
const DEFLATED = "1.2.840.10008.1.2.1.99";
/** GE's own Transfer Syntax: implicit VR, little-endian, but the words of the pixels are big-endian. */
const GE_BIG_PIXELS = "1.2.840.113619.5.2";
const MOST_INFLATED = 256e6;

/** @param {Uint8Array} bytes @returns {boolean} whether this looks like DICOM, with or without a preamble */
export function isDicom(bytes) {
  const begins = (first, second) => bytes[0] === first && bytes[1] === second;
  return hasPreamble(bytes) || begins(2, 0) || begins(8, 0) || begins(0, 8);
}

/**
 * @param {Uint8Array} bytes the file
 * @param {typeof import("./decoding.js").decodeApart} decodeStream called when the film is compressed
 * @returns {Promise<import("./canvas.js").Film & { view: "ap" | "lateral" | null }>}
 * @throws {Problem}
 */
export async function readDicom(bytes, decodeStream) {
  const { set, shape, cells, values } = await readStored(bytes, decodeStream);
  const table = makeTable(set, shape, cells, values);
  const pixels = new Uint8Array(cells.length);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[cells[i]];
  const { width, height } = shape;
  return { pixels, width, height, view: VIEWS[set.word(tags.VIEW_POSITION)] ?? null };
}

/**
 * The pixels as they are stored, before anything makes gray levels of them.
 *
 * @param {Uint8Array} bytes
 * @param {typeof import("./decoding.js").decodeApart} decodeStream
 * @returns {Promise<{ set: DataSet, shape: object, cells: Uint8Array | Uint16Array, values: Float64Array }>} `cells`: bit patterns, row by row;
 *   `values`: the stored value of each pattern
 * @throws {Problem}
 */
export async function readStored(bytes, decodeStream) {
  const { set, syntax } = readElements(bytes);
  const shape = check(set);
  const stored = isCompressed(set, syntax) ? await decode(readStream(set, syntax), shape, decodeStream) : takeCells(set, shape, set.little && syntax !== GE_BIG_PIXELS);
  return { set, shape, ...stored };
}

const hasPreamble = (bytes) => bytes.length >= 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";

/** @returns {{ set: DataSet, syntax: string }} the elements and the Transfer Syntax UID as it is written */
function readElements(file) {
  let [bytes, at, syntax] = [file, hasPreamble(file) ? 132 : 0, ""];
  if (bytes[at] === 2 && bytes[at + 1] === 0) {
    const meta = new DataSet(bytes, true, true); // always (PS3.10 7.1)
    at = meta.read(at, bytes.length, (tag) => tag >= 0x00030000);
    syntax = meta.word(tags.TRANSFER_SYNTAX);
  }
  const beginsWithElement = (bytes[at] === 8 && bytes[at + 1] === 0) || (bytes[at] === 0 && bytes[at + 1] === 8);
  if (syntax === DEFLATED && !beginsWithElement) [bytes, at] = [inflateAll(bytes.subarray(at)), 0];
  const set = new DataSet(bytes, isLittle(bytes, at), isExplicit(bytes, at));
  set.read(at, bytes.length, () => false);
  return { set, syntax };
}

function inflateAll(packed) {
  const pieces = [];
  let size = 0;
  const hasHeader = (packed[0] & 15) === 8 && ((packed[0] << 8) | packed[1]) % 31 === 0; // of zlib, which doesn't belong there
  inflate(hasHeader ? packed.subarray(2) : packed, (piece) => {
    size += piece.length;
    if (size > MOST_INFLATED) throw new Problem("large", { found: `its elements inflate to more than ${MOST_INFLATED / 1e6} MB` });
    pieces.push(piece.slice());
    return false;
  });
  return joinParts(pieces);
}

/**
 * What the header says of the pixels of one grayscale film.
 *
 * @returns {{ width: number, height: number, allocated: number, used: number, highBit: number, signed: boolean }}
 * @throws {Problem} the first thing for which it is refused
 */
function check(set) {
  if (!set.elements.has(tags.PIXEL_DATA.tag)) {
    if (set.isCut || set.elements.size === 0) throw new Problem("damaged", { found: `it ends before its ${label(tags.PIXEL_DATA)}` });
    throw new Problem("imageless", { element: label(tags.PIXEL_DATA) });
  }
  const refuse = (code, kind, found) => new Problem(code, { element: label(kind), found });
  const modality = set.word(tags.MODALITY);
  if (!MODALITIES.includes(modality)) throw refuse("modality", tags.MODALITY, modality);
  if (set.word(tags.INTENT) === "FOR PROCESSING") throw refuse("raw", tags.INTENT, "FOR PROCESSING");
  const frames = whole(set, tags.FRAMES) ?? 1;
  if (frames > 1) throw refuse("frames", tags.FRAMES, frames);
  const samples = whole(set, tags.SAMPLES_PER_PIXEL) ?? 1;
  if (samples > 1) throw refuse("colour", tags.SAMPLES_PER_PIXEL, samples);
  const photometric = set.word(tags.PHOTOMETRIC);
  if (!["MONOCHROME1", "MONOCHROME2", ""].includes(photometric)) throw refuse("colour", tags.PHOTOMETRIC, photometric);
  const shape = readShape(set, refuse);
  const [down, across] = set.numbers(tags.ASPECT);
  if (down > 0 && across > 0 && down !== across) throw refuse("aspect", tags.ASPECT, `${down}\\${across}`);
  checkSize(shape);
  return shape;
}

function readShape(set, refuse) {
  const [width, height, stored] = [tags.COLUMNS, tags.ROWS, tags.BITS_STORED].map((kind) => whole(set, kind));
  const allocated = whole(set, tags.BITS_ALLOCATED) ?? (stored === null ? null : stored <= 8 ? 8 : 16);
  if (!(height > 0)) throw refuse("header", tags.ROWS, height);
  if (!(width > 0)) throw refuse("header", tags.COLUMNS, width);
  if (allocated !== 8 && allocated !== 16) throw refuse("header", tags.BITS_ALLOCATED, allocated);
  const written = whole(set, tags.HIGH_BIT);
  const high = written !== null && written >= 0 && written < allocated ? written : null;
  const used = stored ?? (high === null ? allocated : high + 1);
  if (used < 1 || used > allocated) throw refuse("header", tags.BITS_STORED, used);
  if (!set.word(tags.PHOTOMETRIC)) throw refuse("header", tags.PHOTOMETRIC, null);
  const highBit = high !== null && high >= used - 1 ? high : used - 1;
  return { width, height, allocated, used, highBit, signed: whole(set, tags.PIXEL_REPRESENTATION) === 1 };
}

/** @returns {number | null} the first value of an element; null when it is absent or no whole number */
function whole(set, kind) {
  const value = set.number(kind);
  return Number.isInteger(value) ? value : null;
}

/** Uncompressed pixels: the first frame of what is there. @returns {{ cells: Uint8Array | Uint16Array, values: Float64Array }} */
function takeCells(set, shape, little) {
  const { at, length, vr } = set.elements.get(tags.PIXEL_DATA.tag);
  const count = shape.width * shape.height;
  const size = shape.allocated / 8;
  if (length < count * size) {
    throw new Problem("damaged", { found: `its ${label(tags.PIXEL_DATA)} holds ${length} bytes, expected ${count * size}` });
  }
  const bytes = set.bytes.subarray(at, at + length);
  const swapped = isSwapped(set.little, vr);
  const values = listPatterns(shape.allocated, (pattern) => takeBits(pattern, shape));
  if (size === 1 && !swapped) return { cells: bytes.subarray(0, count), values };
  const cells = size === 1 ? new Uint8Array(count) : new Uint16Array(count);
  if (size === 1) for (let i = 0; i < count; i++) cells[i] = bytes[i ^ 1] ?? bytes[i];
  else {
    const [low, high] = little ? [0, 1] : [1, 0];
    for (let i = 0; i < count; i++) cells[i] = bytes[2 * i + low] | (bytes[2 * i + high] << 8);
  }
  return { cells, values };
}

/** Compressed pixels, as `takeCells` returns them. */
async function decode(stream, shape, decodeStream) {
  const { coding, bits, components } = stream;
  if (components !== 1) throw new Problem("colour", { found: `its ${coding} stream has ${components} components` });
  const [width, height] = [stream.width ?? shape.width, stream.height ?? shape.height];
  if (width !== shape.width || height !== shape.height || bits > shape.allocated || (coding === "RLE" && bits !== shape.allocated)) {
    const expected = `${shape.width} x ${shape.height} pixels of ${shape.allocated} bits`;
    throw new Problem("damaged", { found: `its ${coding} stream has ${width} x ${height} pixels of ${bits} bits, its header says ${expected}` });
  }
  const cells = coding === "RLE" ? unpackRle(stream.bytes, width * height) : await decodeStream(stream);
  return { cells, values: listPatterns(8 * cells.BYTES_PER_ELEMENT, (pattern) => takeSample(pattern, stream, shape)) };
}

const listPatterns = (bits, take) => Float64Array.from({ length: 1 << bits }, (_, pattern) => take(pattern));

const toSigned = (value, bits) => (value >> (bits - 1) ? value - (1 << bits) : value);

/** The bits of a cell that count (PS3.5 8.1.1). */
function takeBits(pattern, { used, highBit, signed }) {
  const value = (pattern >> (highBit + 1 - used)) & ((1 << used) - 1);
  return signed ? toSigned(value, used) : value;
}

/** The stored value of a stream's sample. */
function takeSample(pattern, stream, shape) {
  const { bits, isLossy } = stream;
  const sample = pattern & ((1 << bits) - 1);
  if (isLossy) {
    const value = stream.signed || shape.signed ? toSigned(sample, bits) : sample;
    const half = 1 << (shape.used - 1);
    return shape.signed ? Math.min(half - 1, Math.max(-half, value)) : Math.min(2 * half - 1, Math.max(0, value));
  }
  if (bits > shape.highBit) return takeBits(sample, shape); // whole cells
  const used = Math.min(bits, shape.used);
  return takeBits(sample, { used, highBit: used - 1, signed: shape.signed });
}

/** The gray level of every bit pattern. */
function makeTable(set, shape, cells, values) {
  const window = findWindow(set);
  const isPadding = findPadding(set, shape, values);
  const { measured, least } = applyModality(set, shape, values, window);
  const gray = applyVoi(set, measured, least, window) ?? windowPercentiles(measured, countPatterns(cells, isPadding));
  const inverted = set.word(tags.PHOTOMETRIC) === "MONOCHROME1" || set.word(tags.PRESENTATION_SHAPE) === "INVERSE";
  return Uint8Array.from(gray, (value, pattern) => (isPadding(pattern) ? 0 : toByte(inverted ? 1 - value : value)));
}

function countPatterns(cells, isPadding) {
  const counts = new Uint32Array(1 << (8 * cells.BYTES_PER_ELEMENT));
  for (let i = 0; i < cells.length; i++) counts[cells[i]]++;
  return counts.map((count, pattern) => (isPadding(pattern) ? 0 : count));
}

/** The first window that can be used (PS3.3 C.11.2.1.2). */
function findWindow(set) {
  const [centre, width] = [set.number(tags.WINDOW_CENTRE), set.number(tags.WINDOW_WIDTH)];
  const shape = set.word(tags.VOI_FUNCTION) || "LINEAR";
  if (centre === null || width === null || width <= 0 || (shape === "LINEAR" && width < 1)) return null;
  return { centre, width, shape };
}

/** Padding around the film (PS3.3 C.7.5.1.1.2), modulo 2 ** 16, for the tag may be unsigned beside signed pixels. */
function findPadding(set, { signed }, values) {
  const first = whole(set, tags.PADDING);
  if (first === null) return () => false;
  const order = (value) => (signed ? toSigned(value & 0xffff, 16) : value & 0xffff);
  const bounds = [order(first), order(whole(set, tags.PADDING_LIMIT) ?? first)];
  const [low, high] = [Math.min(...bounds), Math.max(...bounds)];
  return (pattern) => ((values[pattern] - low) & 0xffff) <= high - low;
}

/** The modality LUT, else the rescale (PS3.3 C.11.1); with it the smallest value that can come out. */
function applyModality(set, { used, signed }, values, window) {
  if (![set.word(tags.MODALITY), set.word(tags.SOP_CLASS)].some((word) => RAW_INTENSITY.includes(word))) {
    const table = readTable(set, tags.MODALITY_LUT, signed, window !== null);
    if (table) return { measured: values.map(table.look), least: 0 };
  }
  const [slope, intercept] = [set.number(tags.SLOPE), set.number(tags.INTERCEPT)];
  const rescale = slope && intercept !== null ? (value) => value * slope + intercept : (value) => value;
  const limits = signed ? [-(2 ** (used - 1)), 2 ** (used - 1) - 1] : [0, 2 ** used - 1];
  return { measured: values.map(rescale), least: Math.min(...limits.map(rescale)) };
}

/** The first VOI LUT, else the window (PS3.3 C.11.2); null when there is neither. */
function applyVoi(set, values, least, window) {
  const table = readTable(set, tags.VOI_LUT, least < 0, window !== null);
  if (table) return values.map((value) => table.look(value) / table.top);
  if (!window) return null;
  const { centre, width, shape } = window;
  if (shape === "SIGMOID") return values.map((value) => 1 / (1 + Math.exp((-4 * (value - centre)) / width)));
  if (shape !== "LINEAR" && shape !== "LINEAR_EXACT") throw new Problem("function", { element: label(tags.VOI_FUNCTION), found: shape });
  const [middle, range] = shape === "LINEAR" ? [centre - 0.5, width - 1] : [centre, width];
  if (range === 0) return values.map((value) => (value > middle ? 1 : 0));
  return values.map((value) => clip((value - middle) / range + 0.5));
}
