/** Lookup tables of DICOM (PS3.3 C.11.1.1.1, C.11.2.1.1): "Lookup tables" of docs/canvas.md. */
import { isSwapped, label, LUT_DATA, LUT_DESCRIPTOR } from "./dataset.js";
import { Problem } from "./problems.js";

/**
 * The first table of a sequence.
 *
 * @param {import("./dataset.js").DataSet} set
 * @param {import("./dataset.js").Kind} kind of the sequence
 * @param {boolean} signed whether the values that are looked up can be negative
 * @param {boolean} hasWindow whether the film has a window, which takes the place of an unusable table
 * @returns {{ look: (value: number) => number, top: number } | null} the entry of a value, and the largest possible one; null where there is none
 * @throws {Problem} table
 */
export function readTable(set, kind, signed, hasWindow) {
  const item = set.firstItem(kind);
  if (!item) return null;
  const [entries, fault, first, bits] = readEntries(item, signed);
  if (fault && hasWindow) return null;
  if (fault) throw new Problem("table", { element: label(kind), found: fault });
  const largest = entries.reduce((most, entry) => Math.max(most, entry), 0);
  // a 12-bit table that is declared as 16 bits is common; viewers scale it by its largest entry
  const top = largest < 2 ** (bits - 1) ? largest : 2 ** bits - 1;
  const last = entries.length - 1;
  // its first and last entry continue outwards
  return { look: (value) => entries[Math.min(last, Math.max(0, Math.floor(value + 0.5) - first))], top };
}

/** @returns {[Uint16Array | null, string | null, number, number]} the entries or what is wrong with them, the first input, the bits */
function readEntries(item, signed) {
  const numbers = item.numbers(LUT_DESCRIPTOR).slice(0, 3);
  const refuse = (fault) => [null, fault, 0, 0];
  if (numbers.length < 3 || !numbers.every(Number.isInteger)) return refuse(`its ${label(LUT_DESCRIPTOR)} is not three numbers`);
  const count = wrap(numbers[0]) || 1 << 16;
  const first = signed && wrap(numbers[1]) >= 1 << 15 ? wrap(numbers[1]) - (1 << 16) : wrap(numbers[1]);
  const bits = numbers[2];
  const { at, length, vr } = item.elements.get(LUT_DATA.tag) ?? { at: 0, length: 0 };
  const narrow = bits === 8 && length < 2 * count;
  const held = Math.min(count, narrow ? length : Math.floor(length / 2));
  if (held < count) return refuse(`its ${label(LUT_DATA)} holds ${held} entries, its ${label(LUT_DESCRIPTOR)} announces ${count}`);
  const flip = Number(isSwapped(item.little, vr || LUT_DATA.vr)); // two entries in a word
  const entries = Uint16Array.from({ length: count }, (_, n) => (narrow ? item.bytes[at + (n ^ flip)] : item.view.getUint16(at + 2 * n, item.little)));
  const largest = entries.reduce((most, entry) => Math.max(most, entry), 0);
  if (bits < 8 || bits > 16 || largest >= 2 ** bits) {
    return refuse(`its ${label(LUT_DESCRIPTOR)} announces entries of ${bits} bits, and the largest is ${largest}`);
  }
  if (largest === 0) return refuse(`all entries of its ${label(LUT_DATA)} are 0`);
  return [entries, null, first, bits];
}

/** The descriptor's numbers have 16 bits, with or without a sign. */
const wrap = (number) => ((number % (1 << 16)) + (1 << 16)) % (1 << 16);
