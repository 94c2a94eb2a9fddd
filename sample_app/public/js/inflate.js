/**
 * DEFLATE (RFC 1951) in pieces: a few bytes that unfold to gigabytes cost no memory here. Browsers' own DecompressionStream refuses the
 * padding byte that DICOM puts behind the data (PS3.5 A.5), and older ones lack it.
 */
import { Problem } from "./problems.js";

/** How far back a copy may reach. */
const WINDOW = 1 << 15;
const LONGEST_COPY = 258;
/** A window, and what is handed over at once. */
const FULL = WINDOW + (1 << 17);
/** Base and extra bits of the lengths 257..285 and of the distances (RFC 1951, 3.2.5). */
const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES = Array.from({ length: 30 }, (_, n) => (n < 4 ? n + 1 : ((2 + (n & 1)) << ((n >> 1) - 1)) + 1));
const DISTANCE_BITS = Array.from({ length: 30 }, (_, n) => (n < 4 ? 0 : (n >> 1) - 1));
/** The order of the code lengths' own code lengths (3.2.7). */
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const fixed = (n) => (n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8);

/**
 * @param {Uint8Array} packed what follows the end is ignored
 * @param {(piece: Uint8Array) => boolean} take is given what comes out, in a buffer that is used again; it says whether it has enough
 * @returns {number | null} where the end is in `packed`; null when `take` had enough before
 * @throws {Problem} damaged: it is no DEFLATE, or ends early
 */
export function inflate(packed, take) {
  const input = new Bits(packed);
  const out = new Uint8Array(FULL + LONGEST_COPY);
  let [to, taken, total] = [0, 0, 0];
  /** Hand over what came out, and keep the window. */
  const hand = () => {
    const hasEnough = take(out.subarray(taken, to));
    const kept = Math.min(to, WINDOW);
    out.copyWithin(0, to - kept, to);
    total += to - kept;
    to = taken = kept;
    return hasEnough;
  };
  for (let isLast = false; !isLast; ) {
    isLast = input.read(1) === 1;
    const kind = input.read(2);
    if (kind === 3) throw damaged("holds a block of a kind that doesn't exist");
    if (kind === 0) {
      for (let stored = input.readStored(); stored.length > 0; ) {
        const part = stored.subarray(0, FULL - to);
        out.set(part, to);
        to += part.length;
        stored = stored.subarray(part.length);
        if (to >= FULL && hand()) return null;
      }
      continue;
    }
    const [literals, distances] = kind === 1 ? FIXED : readTables(input);
    for (let isOver = false; !isOver; ) {
      [to, isOver] = unfold(input, literals, distances, out, to, total);
      if (to >= FULL && hand()) return null;
    }
  }
  return hand() ? null : input.at - (input.held >> 3);
}

/** The bits of the input, the low ones first. */
class Bits {
  at = 0;
  bits = 0;
  held = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  refill() {
    for (; this.held <= 24; this.held += 8) this.bits |= this.bytes[this.at++] << this.held; // beyond the end: zeros
    if (this.at - (this.held >> 3) > this.bytes.length) throw damaged("ends early");
  }

  read(count) {
    this.refill();
    const value = this.bits & ((1 << count) - 1);
    this.drop(count);
    return value;
  }

  readSymbol(table) {
    this.refill();
    const entry = table[this.bits & (table.length - 1)];
    if (entry === 0) throw damaged("holds a code that doesn't exist");
    this.drop(entry & 15);
    return entry >> 4;
  }

  drop(count) {
    this.bits >>>= count;
    this.held -= count;
    if (this.at - (this.held >> 3) > this.bytes.length) throw damaged("ends early");
  }

  /** The bytes of a stored block (3.2.4). */
  readStored() {
    const { bytes } = this;
    const at = this.at - (this.held >> 3);
    const [length, check] = [bytes[at] | (bytes[at + 1] << 8), bytes[at + 2] | (bytes[at + 3] << 8)];
    if (length !== (~check & 0xffff)) throw damaged("contradicts itself");
    this.at = at + 4 + length;
    this.bits = this.held = 0;
    if (this.at > bytes.length) throw damaged("ends early");
    return bytes.subarray(at + 4, this.at);
  }
}

/** The codes of a block that brings its own (3.2.7). */
function readTables(input) {
  const [literals, distances, count] = [input.read(5) + 257, input.read(5) + 1, input.read(4) + 4];
  const own = new Uint8Array(19);
  for (let n = 0; n < count; n++) own[ORDER[n]] = input.read(3);
  const code = makeTable(own);
  const lengths = new Uint8Array(literals + distances);
  for (let n = 0; n < lengths.length; ) {
    const symbol = input.readSymbol(code);
    if (symbol < 16) {
      lengths[n++] = symbol;
      continue;
    }
    if (symbol === 16 && n === 0) throw damaged("repeats a code length before the first");
    const length = symbol === 16 ? lengths[n - 1] : 0;
    const times = symbol === 16 ? 3 + input.read(2) : symbol === 17 ? 3 + input.read(3) : 11 + input.read(7);
    if (n + times > lengths.length) throw damaged("holds too many code lengths");
    lengths.fill(length, n, (n += times));
  }
  return [makeTable(lengths.subarray(0, literals)), makeTable(lengths.subarray(literals))];
}

/**
 * Unfold codes until the block ends or `out` is full. The bits are held in local variables: all the time that a picture takes is spent here.
 *
 * @returns {[number, boolean]} the place in `out`, and whether the block is over
 */
function unfold(input, literals, distances, out, to, total) {
  const { bytes } = input;
  const [literalMask, distanceMask] = [literals.length - 1, distances.length - 1];
  let { at, bits, held } = input;
  let isOver = false;
  while (to < FULL) {
    for (; held <= 24; held += 8) bits |= bytes[at++] << held;
    if (at - (held >> 3) > bytes.length) throw damaged("ends early");
    const entry = literals[bits & literalMask];
    if (entry === 0) throw damaged("holds a code that doesn't exist");
    bits >>>= entry & 15;
    held -= entry & 15;
    const symbol = entry >> 4;
    if (symbol < 256) {
      out[to++] = symbol;
      continue;
    }
    if (symbol === 256) {
      isOver = true;
      break;
    }
    if (symbol > 285) throw damaged("holds a length that doesn't exist");
    const lengthBits = LENGTH_BITS[symbol - 257];
    const length = LENGTHS[symbol - 257] + (bits & ((1 << lengthBits) - 1));
    bits >>>= lengthBits;
    held -= lengthBits;
    for (; held <= 24; held += 8) bits |= bytes[at++] << held;
    const place = distances[bits & distanceMask];
    if (place === 0 || place >> 4 > 29) throw damaged("holds a distance that doesn't exist");
    bits >>>= place & 15;
    held -= place & 15;
    for (; held <= 24; held += 8) bits |= bytes[at++] << held;
    const distanceBits = DISTANCE_BITS[place >> 4];
    const distance = DISTANCES[place >> 4] + (bits & ((1 << distanceBits) - 1));
    bits >>>= distanceBits;
    held -= distanceBits;
    if (distance > total + to) throw damaged("refers to what was before its beginning");
    for (let from = to - distance, end = to + length; to < end; ) out[to++] = out[from++];
  }
  if (at - (held >> 3) > bytes.length) throw damaged("ends early");
  Object.assign(input, { at, bits, held });
  return [to, isOver];
}

const damaged = (what) => new Problem("damaged", { found: `its compressed data (DEFLATE) ${what}` });

/** A table by the next bits: the symbol and its code's length in the low 4 bits, 0 where no code begins so. */
function makeTable(lengths) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  const next = new Uint16Array(16);
  for (let length = 1, code = 0; length <= 15; length++) {
    next[length] = code = (code + counts[length - 1]) << 1;
    if (code + counts[length] > 1 << length) throw damaged("holds contradictory codes");
  }
  let most = 15;
  while (most > 1 && counts[most] === 0) most--;
  const table = new Uint16Array(1 << most);
  lengths.forEach((length, symbol) => {
    if (length === 0) return;
    let reversed = 0;
    for (let n = 0, code = next[length]++; n < length; n++, code >>= 1) reversed = (reversed << 1) | (code & 1);
    for (; reversed < table.length; reversed += 1 << length) table[reversed] = (symbol << 4) | length;
  });
  return table;
}

const FIXED = [makeTable(Uint8Array.from({ length: 288 }, (_, n) => fixed(n))), makeTable(new Uint8Array(30).fill(5))];
