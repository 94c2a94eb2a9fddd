/**
 * The elements of a DICOM data set as they are written: "DICOM: the elements" of docs/canvas.md. Lengths that lie end the reading; they
 * never lead beyond the file, and nested sequences are walked without recursion, however deep they are.
 *
 * @typedef {object} Kind an element that plays a part
 * @property {number} tag
 * @property {string} name
 * @property {string} vr as the standard's dictionary has it (PS3.6); implicit VR leaves it to the dictionary
 *
 * @typedef {object} Element
 * @property {string} vr empty where the file doesn't say
 * @property {number} at of its first byte in `DataSet.bytes`
 * @property {number} length bytes; UNDEFINED for pixel data in fragments
 */

/** @returns {Kind} */
const define = (tag, name, vr) => ({ tag, name, vr });

export const TRANSFER_SYNTAX = define(0x00020010, "Transfer Syntax UID", "UI");
export const SOP_CLASS = define(0x00080016, "SOP Class UID", "UI");
export const MODALITY = define(0x00080060, "Modality", "CS");
export const INTENT = define(0x00080068, "Presentation Intent Type", "CS");
export const VIEW_POSITION = define(0x00185101, "View Position", "CS");
export const SAMPLES_PER_PIXEL = define(0x00280002, "Samples per Pixel", "US");
export const PHOTOMETRIC = define(0x00280004, "Photometric Interpretation", "CS");
export const FRAMES = define(0x00280008, "Number of Frames", "IS");
export const ROWS = define(0x00280010, "Rows", "US");
export const COLUMNS = define(0x00280011, "Columns", "US");
export const ASPECT = define(0x00280034, "Pixel Aspect Ratio", "IS");
export const BITS_ALLOCATED = define(0x00280100, "Bits Allocated", "US");
export const BITS_STORED = define(0x00280101, "Bits Stored", "US");
export const HIGH_BIT = define(0x00280102, "High Bit", "US");
export const PIXEL_REPRESENTATION = define(0x00280103, "Pixel Representation", "US");
export const PADDING = define(0x00280120, "Pixel Padding Value", "US");
export const PADDING_LIMIT = define(0x00280121, "Pixel Padding Range Limit", "US");
export const WINDOW_CENTRE = define(0x00281050, "Window Center", "DS");
export const WINDOW_WIDTH = define(0x00281051, "Window Width", "DS");
export const INTERCEPT = define(0x00281052, "Rescale Intercept", "DS");
export const SLOPE = define(0x00281053, "Rescale Slope", "DS");
export const VOI_FUNCTION = define(0x00281056, "VOI LUT Function", "CS");
export const MODALITY_LUT = define(0x00283000, "Modality LUT Sequence", "SQ");
export const LUT_DESCRIPTOR = define(0x00283002, "LUT Descriptor", "US");
export const LUT_DATA = define(0x00283006, "LUT Data", "OW");
export const VOI_LUT = define(0x00283010, "VOI LUT Sequence", "SQ");
export const PRESENTATION_SHAPE = define(0x20500020, "Presentation LUT Shape", "CS");
export const PIXEL_DATA = define(0x7fe00010, "Pixel Data", "OW");

export const UNDEFINED = 0xffffffff;
export const ITEM = 0xfffee000;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;

/** VRs whose length has 32 bits where the VR is written (PS3.5 7.1.2). */
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];
/** Bytes of a number, and how it is read. */
const BINARY = {
  AT: [2, "getUint16"],
  OB: [1, "getUint8"],
  OW: [2, "getUint16"],
  US: [2, "getUint16"],
  SS: [2, "getInt16"],
  OL: [4, "getUint32"],
  UL: [4, "getUint32"],
  SL: [4, "getInt32"],
  OF: [4, "getFloat32"],
  FL: [4, "getFloat32"],
  OD: [8, "getFloat64"],
  FD: [8, "getFloat64"],
  OV: [8, "getBigUint64"],
  UV: [8, "getBigUint64"],
  SV: [8, "getBigInt64"],
};
const NUMBER = /^[\s\0]*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?[\s\0]*$/;

/** @param {Kind} kind @returns {string} its name and tag, for people */
export function label({ name, tag }) {
  const text = tag.toString(16).toUpperCase().padStart(8, "0");
  return `${name} (${text.slice(0, 4)},${text.slice(4)})`;
}

/** @returns {boolean} whether the VR is written in the element at `at` */
export const isExplicit = (bytes, at) => [bytes[at + 4], bytes[at + 5]].every((letter) => letter >= 65 && letter <= 90);

/** @returns {boolean} whether the element at `at` is little endian: data sets begin with a low group */
export const isLittle = (bytes, at) => bytes[at] !== 0 || bytes[at + 1] === 0;

/** The elements of a file, or of one item of a sequence. */
export class DataSet {
  /** @type {Map<number, Element>} by tag */
  elements = new Map();
  /** Whether the bytes end inside an element, or can't be followed. */
  isCut = false;
  #explicit;

  /**
   * @param {Uint8Array} bytes
   * @param {boolean} little byte order
   * @param {boolean} explicit whether VRs are written
   */
  constructor(bytes, little, explicit) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = little;
    this.#explicit = explicit;
  }

  /**
   * Read elements up to and including Pixel Data.
   *
   * @param {number} at where to begin
   * @param {number} end where to end
   * @param {(tag: number) => boolean} isOver whether an element is beyond those that are wanted
   * @returns {number} where it ended
   */
  read(at, end, isOver) {
    while (at + 8 <= end) {
      const tag = this.#readTag(at);
      if (isOver(tag)) return at;
      const element = this.#readHeader(at, end, this.#explicit);
      if (!element) break;
      const { length } = element;
      if (length === UNDEFINED && isDelimiter(tag)) {
        at = element.at; // one that nothing begins or ends with
        continue;
      }
      if (tag === PIXEL_DATA.tag) {
        this.elements.set(tag, { ...element, length: length === UNDEFINED ? length : Math.min(length, end - element.at) });
        return end;
      }
      const next = length === UNDEFINED ? this.#skipItems(element.at, end) : element.at + length;
      this.elements.set(tag, { ...element, length: Math.min(next ?? end, end) - element.at });
      if (next === null || next > end) break;
      at = next;
    }
    this.isCut = at < end;
    return at;
  }

  #readTag(at) {
    return this.view.getUint16(at, this.little) * 0x10000 + this.view.getUint16(at + 2, this.little);
  }

  /** @returns {Element | null} null where it is cut off */
  #readHeader(at, end, explicit) {
    // some writers leave out the VR in the middle
    if (!explicit || !isExplicit(this.bytes, at)) return { vr: "", at: at + 8, length: this.view.getUint32(at + 4, this.little) };
    const vr = String.fromCharCode(this.bytes[at + 4], this.bytes[at + 5]);
    if (!LONG.includes(vr)) return { vr, at: at + 8, length: this.view.getUint16(at + 6, this.little) };
    return at + 12 <= end ? { vr, at: at + 12, length: this.view.getUint32(at + 8, this.little) } : null;
  }

  /** Walk the items of an element of undefined length. @returns {number | null} where it ends; null where that can't be found */
  #skipItems(at, end) {
    const open = [{ isItem: false, explicit: this.#explicit }];
    while (open.length > 0) {
      if (at + 8 > end) return null;
      const inner = open[open.length - 1];
      const tag = this.#readTag(at);
      if (tag === (inner.isItem ? ITEM_END : SEQUENCE_END)) {
        open.pop();
        at += 8;
      } else if (inner.isItem) {
        const element = this.#readHeader(at, end, inner.explicit);
        if (!element) return null;
        if (element.length === UNDEFINED) open.push({ isItem: false, explicit: inner.explicit });
        at = element.at + (element.length === UNDEFINED ? 0 : element.length);
      } else if (tag === ITEM || tag === ITEM_END) {
        const length = this.view.getUint32(at + 4, this.little); // 0 of an end without its item
        if (length === UNDEFINED) open.push({ isItem: true, explicit: inner.explicit && isExplicit(this.bytes, at + 8) });
        at += 8 + (length === UNDEFINED ? 0 : length);
      } else return null;
    }
    return at;
  }

  /** @returns {DataSet | null} the first item of a sequence, without elements where it can't be read; null when there is none */
  firstItem(kind) {
    const element = this.elements.get(kind.tag);
    if (!element || element.length < 8 || this.#readTag(element.at) === SEQUENCE_END) return null;
    const item = new DataSet(this.bytes, this.little, this.#explicit && isExplicit(this.bytes, element.at + 8));
    if (this.#readTag(element.at) !== ITEM) return item;
    const length = this.view.getUint32(element.at + 4, this.little);
    const [start, limit] = [element.at + 8, element.at + element.length];
    item.read(start, length === UNDEFINED ? limit : Math.min(limit, start + length), (tag) => tag === ITEM_END || tag === SEQUENCE_END);
    return item;
  }

  /** @returns {number[]} the values of an element, NaN for what is no finite number; none when it is absent */
  numbers(kind) {
    const element = this.elements.get(kind.tag);
    if (!element) return [];
    const vr = ["", "UN"].includes(element.vr) ? kind.vr : element.vr;
    if (!(vr in BINARY)) return this.#text(element).split("\\").map(parseNumber);
    const [size, read] = BINARY[vr];
    const values = Array.from({ length: Math.floor(element.length / size) }, (_, n) => Number(this.view[read](element.at + size * n, this.little)));
    return values.map((value) => (Number.isFinite(value) ? value : NaN));
  }

  /** @returns {number | null} the first value; null when it is absent or no finite number */
  number(kind) {
    const [value = NaN] = this.numbers(kind);
    return Number.isNaN(value) ? null : value;
  }

  /** @returns {string} the first value in capitals, without blanks around it; empty when it is absent */
  word(kind) {
    const element = this.elements.get(kind.tag);
    return element ? this.#text(element).split("\\")[0].replace(/^[\s\0]+|[\s\0]+$/g, "").toUpperCase() : "";
  }

  #text({ at, length }) {
    return new TextDecoder("latin1").decode(this.bytes.subarray(at, at + length));
  }
}

/** @returns {boolean} whether bytes of this VR were written as big-endian words, and so are swapped in pairs */
export const isSwapped = (little, vr) => !little && ["OW", "US", "SS"].includes(vr);

const isDelimiter = (tag) => tag === ITEM || tag === ITEM_END || tag === SEQUENCE_END;

function parseNumber(text) {
  const value = NUMBER.test(text) ? Number(text.replace(/\0/g, " ").replace(",", ".")) : NaN;
  return Number.isFinite(value) ? value : NaN;
}
