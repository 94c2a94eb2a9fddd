/**
 * DICOM films, uncompressed or RLE: "Gray levels" of docs/canvas.md. One frame, MONOCHROME1 or 2, 8 or 16 bits allocated; little or big
 * endian, with or without the file's preamble.
 */
import { Problem } from "./problems.js";
import { unpackRle } from "./rle.js";
import { clip, toByte, windowPercentiles } from "./window.js";

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const RLE = "1.2.840.10008.1.2.5";
/** Radiographs, and objects that don't say what they are (Modality, PS3.3 C.7.3.1.1.1). */
const RADIOGRAPHS = ["CR", "DX", "RF", "XA", "RG", "OT", "SC", ""];
const VIEWS = { AP: "ap", PA: "ap", LL: "lateral", RL: "lateral", LAT: "lateral", LATERAL: "lateral" };
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];
const MAX_PIXELS = 80e6;
const UNDEFINED = 0xffffffff;

/** @param {Uint8Array} bytes @returns {boolean} whether this looks like DICOM, with or without a preamble */
export function isDicom(bytes) {
  const magic = String.fromCharCode(...bytes.subarray(128, 132));
  return magic === "DICM" || ((bytes[0] === 2 || bytes[0] === 8) && bytes[1] === 0);
}

/**
 * @param {Uint8Array} bytes the file
 * @returns {import("./canvas.js").Film & { view: "ap" | "lateral" | null }}
 * @throws {Problem}
 */
export function readDicom(bytes) {
  let set;
  try {
    set = readFile(bytes);
  } catch (error) {
    if (error instanceof RangeError) throw new Problem("damaged", { kind: "DICOM" });
    throw error;
  }
  check(set);
  const [width, height] = [set.number("00280011"), set.number("00280010")];
  const stored = readPixels(set, width * height);
  const table = makeTable(set, stored);
  const pixels = new Uint8Array(stored.length);
  for (let i = 0; i < stored.length; i++) pixels[i] = table[stored[i]];
  return { pixels, width, height, view: VIEWS[set.text("00185101").toUpperCase()] ?? null };
}

function readFile(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hasPreamble = String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
  let start = hasPreamble ? 132 : 0;
  let syntax = /[A-Z]{2}/.test(String.fromCharCode(bytes[start + 4], bytes[start + 5])) ? EXPLICIT : IMPLICIT;
  if (view.getUint16(start, true) === 2) {
    const meta = new DataSet(view, true);
    start = meta.read(start, bytes.length, EXPLICIT, (group) => group !== 2);
    syntax = meta.text("00020010");
  }
  if (![IMPLICIT, EXPLICIT, BIG_ENDIAN, RLE].includes(syntax)) throw new Problem("compressed", { syntax });
  const set = new DataSet(view, syntax !== BIG_ENDIAN);
  set.isPacked = syntax === RLE;
  set.read(start, bytes.length, syntax, () => false);
  return set;
}

/** The elements of a data set, or of one item of a sequence. */
class DataSet {
  elements = new Map();
  isPacked = false;

  constructor(view, little) {
    this.view = view;
    this.little = little;
  }

  /** Read elements from `at` to `end`, or until `stop` says so of a group. @returns {number} where it ended */
  read(at, end, syntax, stop) {
    const { view, little } = this;
    while (at + 8 <= end) {
      const group = view.getUint16(at, little);
      if (stop(group)) return at;
      const tag = hex(group) + hex(view.getUint16(at + 2, little));
      if (tag === "FFFEE00D" || tag === "FFFEE0DD") return at + 8; // the end of an item or a sequence of undefined length
      let vr = "";
      let length;
      if (syntax === IMPLICIT) {
        length = view.getUint32(at + 4, little);
        at += 8;
      } else {
        vr = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
        const long = LONG.includes(vr);
        length = long ? view.getUint32(at + 8, little) : view.getUint16(at + 6, little);
        at += long ? 12 : 8;
      }
      const element = { vr, at, length };
      if (tag === "7FE00010") {
        if ((length === UNDEFINED) !== this.isPacked) throw new Problem("damaged", { kind: "DICOM" });
        if (this.isPacked) length = end - at; // the fragments, to the end
        if (at + length > end) throw new Problem("damaged", { kind: "DICOM" });
        element.length = length;
      } else if (vr === "SQ" || length === UNDEFINED || this.holdsItems(tag, at, length)) {
        at = this.readItems(element, length === UNDEFINED ? end : Math.min(end, at + length), vr === "UN" ? IMPLICIT : syntax);
        length = 0;
      }
      this.elements.set(tag, element);
      at += length;
    }
    return at;
  }

  /** Implicit syntax does not say which element is a sequence: the ones that are read here are known. */
  holdsItems(tag, at, length) {
    return ["00283000", "00283010"].includes(tag) && length >= 8 && this.view.getUint16(at, this.little) === 0xfffe;
  }

  readItems(element, end, syntax) {
    const { view, little } = this;
    element.items = [];
    let at = element.at;
    while (at + 8 <= end) {
      const tag = hex(view.getUint16(at, little)) + hex(view.getUint16(at + 2, little));
      const length = view.getUint32(at + 4, little);
      at += 8;
      if (tag === "FFFEE0DD") break;
      if (tag !== "FFFEE000") throw new Problem("damaged", { kind: "DICOM" });
      const item = new DataSet(view, little);
      const limit = length === UNDEFINED ? end : Math.min(end, at + length);
      const ended = item.read(at, limit, syntax, () => false);
      at = length === UNDEFINED ? ended : limit;
      element.items.push(item);
    }
    return at;
  }

  has(tag) {
    return (this.elements.get(tag)?.length ?? 0) > 0;
  }

  items(tag) {
    return this.elements.get(tag)?.items ?? [];
  }

  text(tag) {
    const element = this.elements.get(tag);
    if (!element) return "";
    const bytes = new Uint8Array(this.view.buffer, this.view.byteOffset + element.at, element.length);
    return String.fromCharCode(...bytes.subarray(0, 1024)).replace(/[\0 ]+$/, "").trim();
  }

  /** @returns {number | null} the first value of a decimal string */
  decimal(tag) {
    const value = parseFloat(this.text(tag).split("\\")[0]);
    return Number.isFinite(value) ? value : null;
  }

  /** @returns {number} value number `index` of an unsigned short element */
  number(tag, index = 0) {
    return this.view.getUint16(this.elements.get(tag).at + 2 * index, this.little);
  }
}

const hex = (number) => number.toString(16).toUpperCase().padStart(4, "0");

function check(set) {
  const modality = set.text("00080060").toUpperCase();
  if (!RADIOGRAPHS.includes(modality)) throw new Problem("modality", { modality });
  for (const tag of ["7FE00010", "00280010", "00280011", "00280100", "00280101"]) {
    if (!set.has(tag)) throw new Problem("damaged", { kind: "DICOM" });
  }
  if ((parseInt(set.text("00280008"), 10) || 1) > 1) throw new Problem("frames");
  const samples = set.has("00280002") ? set.number("00280002") : 1;
  if (samples !== 1 || !["MONOCHROME1", "MONOCHROME2"].includes(set.text("00280004"))) throw new Problem("colour");
  const [allocated, used] = [set.number("00280100"), set.number("00280101")];
  if (![8, 16].includes(allocated) || used < 1 || used > allocated) throw new Problem("damaged", { kind: "DICOM" });
  const [width, height] = [set.number("00280011"), set.number("00280010")];
  if (width * height > MAX_PIXELS) throw new Problem("large", { width, height });
  if (width * height === 0) throw new Problem("damaged", { kind: "DICOM" });
}

/** The bit patterns of the pixel cells. */
function readPixels(set, count) {
  const { at, length } = set.elements.get("7FE00010");
  const wide = set.number("00280100") === 16;
  if (set.isPacked) return unpackRle(joinFragments(set), count, wide);
  if (length < count * (wide ? 2 : 1)) throw new Problem("damaged", { kind: "DICOM" });
  const bytes = new Uint8Array(set.view.buffer, set.view.byteOffset + at, count * (wide ? 2 : 1));
  if (!wide) return bytes;
  const cells = new Uint16Array(count);
  const [low, high] = set.little ? [0, 1] : [1, 0];
  for (let i = 0; i < count; i++) cells[i] = bytes[2 * i + low] | (bytes[2 * i + high] << 8);
  return cells;
}

/** The bytes of the one frame, without the offset table before it (PS3.5 A.4). */
function joinFragments(set) {
  const { at, length } = set.elements.get("7FE00010");
  const parts = [];
  for (let next = at; next + 8 <= at + length && set.view.getUint16(next + 2, true) === 0xe000; ) {
    const size = set.view.getUint32(next + 4, true);
    parts.push(new Uint8Array(set.view.buffer, set.view.byteOffset + next + 8, size));
    next += 8 + size;
  }
  if (parts.length !== 2) throw new Problem("damaged", { kind: "DICOM" }); // RLE: one fragment a frame (PS3.5 G.2)
  return parts[1];
}

/** The gray level of every bit pattern that a pixel cell can hold. */
function makeTable(set, stored) {
  const size = stored.BYTES_PER_ELEMENT === 2 ? 1 << 16 : 1 << 8;
  const used = set.number("00280101");
  const highBit = !set.isPacked && set.has("00280102") ? set.number("00280102") : used - 1;
  const signed = isSigned(set);
  const values = Float64Array.from({ length: size }, (_, pattern) => {
    const value = (pattern >> (highBit + 1 - used)) & ((1 << used) - 1);
    return signed && value >> (used - 1) ? value - (1 << used) : value;
  });
  const isPadding = findPadding(set, values);
  const measured = applyModality(set, values);
  const gray = applyVoi(set, measured) ?? windowPercentiles(measured, countPatterns(stored, size, isPadding));
  const inverted = set.text("00280004") === "MONOCHROME1" || set.text("20500020").toUpperCase() === "INVERSE";
  return Uint8Array.from(gray, (value, pattern) => (isPadding(pattern) ? 0 : toByte(inverted ? 1 - value : value)));
}

const isSigned = (set) => set.has("00280103") && set.number("00280103") === 1;

function countPatterns(stored, size, isPadding) {
  const counts = new Uint32Array(size);
  for (let i = 0; i < stored.length; i++) counts[stored[i]]++;
  return counts.map((count, pattern) => (isPadding(pattern) ? 0 : count));
}

/** Padding around the film (PS3.3 C.7.5.1.1.2), modulo 2 ** 16, for the tag may be unsigned beside signed pixels. */
function findPadding(set, values) {
  if (!set.has("00280120")) return () => false;
  const first = set.number("00280120");
  const last = set.has("00280121") ? set.number("00280121") : first;
  const signed = isSigned(set);
  const order = (value) => (signed && value >= 1 << 15 ? value - (1 << 16) : value);
  const [low, high] = [Math.min(order(first), order(last)), Math.max(order(first), order(last))];
  return (pattern) => ((values[pattern] - low) & 0xffff) <= high - low;
}

/** The modality LUT, else the rescale (PS3.3 C.11.1). */
function applyModality(set, values) {
  const [item] = set.items("00283000");
  if (item) {
    const { look } = readTable(item);
    return values.map(look);
  }
  const [slope, intercept] = [set.decimal("00281053"), set.decimal("00281052")];
  return slope === null || intercept === null ? values : values.map((value) => value * slope + intercept);
}

/** The first VOI LUT, else the first window (PS3.3 C.11.2); null when there is neither. */
function applyVoi(set, values) {
  const [item] = set.items("00283010");
  if (item) {
    const { look, top } = readTable(item);
    return values.map((value) => look(value) / top);
  }
  const [centre, width] = [set.decimal("00281050"), set.decimal("00281051")];
  if (centre === null || width === null) return null;
  const shape = set.text("00281056").toUpperCase() || "LINEAR";
  if (width <= 0 || (shape === "LINEAR" && width < 1)) throw new Problem("damaged", { kind: "DICOM" });
  if (shape === "SIGMOID") return values.map((value) => 1 / (1 + Math.exp((-4 * (value - centre)) / width)));
  if (shape !== "LINEAR" && shape !== "LINEAR_EXACT") throw new Problem("damaged", { kind: "DICOM" });
  const [middle, range] = shape === "LINEAR" ? [centre - 0.5, width - 1] : [centre, width];
  if (range === 0) return values.map((value) => (value > middle ? 1 : 0));
  return values.map((value) => clip((value - middle) / range + 0.5));
}

/** A lookup table (PS3.3 C.11.1.1.1, C.11.2.1.1): its first and last entry continue outwards. */
function readTable(item) {
  const entries = item.number("00283002", 0) || 1 << 16;
  const raw = item.number("00283002", 1);
  const bits = item.number("00283002", 2);
  const { at, length } = item.elements.get("00283006");
  const wide = length >= 2 * entries;
  const signed = item.elements.get("00283002").vr === "SS";
  const first = signed && raw >= 1 << 15 ? raw - (1 << 16) : raw;
  const read = (index) => (wide ? item.view.getUint16(at + 2 * index, item.little) : item.view.getUint8(at + index));
  const table = Float64Array.from({ length: entries }, (_, index) => read(index));
  const last = entries - 1;
  return { look: (value) => table[Math.min(last, Math.max(0, Math.round(value) - first))], top: 2 ** bits - 1 };
}
