/**
 * PNG of every colour type and depth, interlaced or not (PNG specification, third edition): "PNG and JPEG" of docs/canvas.md. Browsers cut 16
 * bits down to 8 before anybody can window them, and each applies profiles and transparency in its own way. Lines become gray levels as they are
 * inflated, so a picture costs little more than its gray levels.
 *
 * @typedef {object} Header
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {number} depth bits a sample
 * @property {number} colour type: 0 gray, 2 colour, 3 palette, 4 gray and alpha, 6 colour and alpha
 * @property {boolean} interlaced
 */
import { inflate } from "./inflate.js";
import { joinParts } from "./jpeg.js";
import { findOrientation, orient } from "./orientation.js";
import { checkSize, Problem } from "./problems.js";
import { isColoured, isTinted, toByte, toLuminance, windowPercentiles } from "./window.js";

/** Depths of each colour type, and its samples a pixel. */
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** First column and row, and the steps, of each pass of Adam7. */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];
const WHOLE = [[0, 0, 1, 1]];

const damaged = (found) => new Problem("damaged", { found });

/**
 * @param {Uint8Array} bytes the file
 * @returns {import("./canvas.js").Film & { coloured: boolean }}
 * @throws {Problem} damaged, large
 */
export function readPng(bytes) {
  const chunks = readChunks(bytes);
  const header = readHeader(chunks);
  const { pixels, tinted } = readPixels(header, chunks);
  const film = orient({ pixels, width: header.width, height: header.height }, findOrientation(findMetadata(chunks)));
  return { ...film, coloured: isColoured(tinted, pixels.length) };
}

/** @returns {{ type: string, content: Uint8Array }[]} all chunks, the header first */
function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if ((type === "IHDR") !== (chunks.length === 0)) throw damaged("a PNG begins with its one header");
    if (at + 12 + length > bytes.length) break;
    // the pixels have a checksum of their own
    if (type !== "IDAT" && sumChunk(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) {
      throw damaged(`the checksum of its chunk ${type} is wrong`);
    }
    chunks.push({ type, content: bytes.subarray(at + 8, at + 8 + length) });
    if (type === "IEND") return chunks;
    at += 12 + length;
  }
  throw damaged("it ends early");
}

const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let n = 0; n < 8; n++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** CRC-32 (PNG specification, annex D). */
function sumChunk(bytes) {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = REMAINDERS[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

const findChunk = (chunks, type) => chunks.find((chunk) => chunk.type === type)?.content ?? null;

function readHeader(chunks) {
  const { content } = chunks[0];
  if (content.length < 13) throw damaged("its header ends early");
  const view = new DataView(content.buffer, content.byteOffset);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, colour, compression, filter, interlace] = content.subarray(8);
  checkSize({ width, height });
  if (!DEPTHS[colour]?.includes(depth) || compression !== 0 || filter !== 0 || interlace > 1 || width === 0 || height === 0) {
    throw damaged("its header contradicts itself");
  }
  return { width, height, depth, colour, interlaced: interlace === 1 };
}

function findMetadata(chunks) {
  const texts = chunks.filter(({ type }) => type === "iTXt").map(({ content }) => readText(content));
  return { exif: findChunk(chunks, "eXIf"), xmp: texts.find(Boolean) ?? null };
}

/** The XMP packet of a chunk iTXt; null when it is another text. */
function readText(content) {
  const keyword = "XML:com.adobe.xmp\0";
  if (String.fromCharCode(...content.subarray(0, keyword.length)) !== keyword) return null;
  const isPacked = content[keyword.length] === 1;
  let at = keyword.length + 2;
  for (let ends = 0; ends < 2 && at < content.length; at++) if (content[at] === 0) ends++; // language and translated keyword
  const text = content.subarray(at);
  return isPacked ? inflateText(text) : text;
}

function inflateText(packed) {
  const pieces = [];
  try {
    inflate(packed.subarray(2), (piece) => pieces.push(piece.slice()) > 8); // a megabyte: no packet has more
  } catch {
    return null; // it plays no part in the pixels
  }
  return joinParts(pieces);
}

/** @returns {{ pixels: Uint8Array, tinted: number }} gray levels, and how many pixels have a tint */
function readPixels(header, chunks) {
  const { width, height, depth, colour, interlaced } = header;
  const packed = joinParts(chunks.filter(({ type }) => type === "IDAT").map(({ content }) => content));
  if (packed.length < 2 || (packed[0] & 15) !== 8 || packed[0] >> 4 > 7 || packed[1] & 32 || ((packed[0] << 8) | packed[1]) % 31 !== 0) throw damaged("it has no pixels");
  const isDeep = depth === 16 && (colour === 0 || colour === 4);
  const values = isDeep ? new Uint16Array(width * height) : new Uint8Array(width * height);
  const lines = makeLines(header, chunks);
  const passes = (interlaced ? ADAM7 : WHOLE)
    .map(([left, top, across, down]) => ({ left, top, across, down, columns: Math.ceil((width - left) / across), rows: Math.ceil((height - top) / down) }))
    .filter(({ columns, rows }) => columns > 0 && rows > 0);
  const bits = depth * CHANNELS[colour];
  const step = Math.max(1, bits >> 3);
  let line = null;
  let [before, filled, row] = [null, 0, 0];
  const begin = () => {
    const length = 1 + Math.ceil((passes[0].columns * bits) / 8);
    [line, before, filled, row] = [new Uint8Array(length), new Uint8Array(length), 0, 0];
  };
  begin();
  let sum = 1;
  const end = inflate(packed.subarray(2), (piece) => {
    sum = sumPixels(sum, piece);
    for (let at = 0; at < piece.length; ) {
      if (passes.length === 0) return true; // more than the picture has
      const part = piece.subarray(at, at + line.length - filled);
      line.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < line.length) continue;
      unfilter(line, before, step);
      const { left, top, across, down, columns, rows } = passes[0];
      lines.take(line, columns, values, (top + row * down) * width + left, across);
      [line, before, filled] = [before, line, 0];
      if (++row < rows) continue;
      passes.shift();
      if (passes.length > 0) begin();
    }
    return false;
  });
  if (passes.length > 0) throw damaged("its pixels end early");
  if (end !== null && (packed.length < end + 6 || new DataView(packed.buffer).getUint32(end + 2) !== sum)) throw damaged("the checksum of its pixels is wrong");
  return { pixels: isDeep ? windowValues(values) : values, tinted: lines.tinted };
}

/** Adler-32 (RFC 1950, 9), of what came before and of these bytes. */
function sumPixels(sum, bytes) {
  let [low, high] = [sum & 0xffff, sum >>> 16];
  for (let at = 0; at < bytes.length; ) {
    for (const end = Math.min(bytes.length, at + 3800); at < end; at++) high += low += bytes[at];
    low %= 65521;
    high %= 65521;
  }
  return ((high << 16) | low) >>> 0;
}

/** Undo the filter of a line (PNG specification, 9.2); its first byte names it. */
function unfilter(line, before, step) {
  const filter = line[0];
  const { length } = line;
  if (filter > 4) throw damaged("a line has a filter that doesn't exist");
  if (filter === 1) for (let i = 1 + step; i < length; i++) line[i] += line[i - step];
  if (filter === 2) for (let i = 1; i < length; i++) line[i] += before[i];
  if (filter === 3) for (let i = 1; i < length; i++) line[i] += ((i > step ? line[i - step] : 0) + before[i]) >> 1;
  if (filter !== 4) return;
  for (let i = 1; i < length; i++) line[i] += guess(i > step ? line[i - step] : 0, before[i], i > step ? before[i - step] : 0);
}

/** Paeth's predictor (9.4). */
function guess(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/**
 * What takes the pixels of a line to `values`, from a place on and by a step.
 *
 * @returns {{ tinted: number, take: (line: Uint8Array, columns: number, values: Uint8Array | Uint16Array, place: number, step: number) => void }}
 *   `tinted`: the pixels in colour so far
 */
function makeLines(header, chunks) {
  const lines = {
    tinted: 0,
    take(line, columns, values, place, step) {
      for (let n = 0, to = place; n < columns; n++, to += step) values[to] = read(line, n);
    },
  };
  const mix = (red, green, blue, alpha) => {
    if (alpha > 0 && isTinted(red, green, blue)) lines.tinted++;
    return fade(toLuminance(red, green, blue), alpha, 255);
  };
  const read = makePixels(header, findChunk(chunks, "PLTE"), findChunk(chunks, "tRNS"), mix);
  return lines;
}

/** The value of pixel `n` of a line, whose first byte is its filter: gray levels, or 16 bits of gray. */
function makePixels({ depth, colour }, palette, key, mix) {
  const word = (bytes, at) => (bytes[at] << 8) | bytes[at + 1];
  const small = (line, n) => (line[1 + ((n * depth) >> 3)] >> (8 - depth - ((n * depth) & 7))) & ((1 << depth) - 1);
  if (key && key.length < { 0: 2, 2: 6 }[colour]) throw damaged("its chunk tRNS ends early");
  const name = (at) => word(key, at) & ((1 << depth) - 1); // of fewer than 16 bits the low ones count (11.3.1.1)
  const hidden = key && colour === 0 ? name(0) : -1;
  if (colour === 0 && depth === 16) return (line, n) => (word(line, 1 + 2 * n) === hidden ? 0 : word(line, 1 + 2 * n));
  if (colour === 0) return (line, n) => (small(line, n) === hidden ? 0 : (small(line, n) * 255) / ((1 << depth) - 1));
  if (colour === 4 && depth === 16) return (line, n) => fade(word(line, 1 + 4 * n), word(line, 3 + 4 * n), 65535);
  if (colour === 4) return (line, n) => fade(line[1 + 2 * n], line[2 + 2 * n], 255);
  if (colour === 3) {
    if (!palette) throw damaged("it has no palette");
    return (line, n) => {
      const index = small(line, n);
      if (3 * index + 2 >= palette.length) throw damaged("a pixel has a colour that its palette lacks");
      return mix(palette[3 * index], palette[3 * index + 1], palette[3 * index + 2], key?.[index] ?? 255);
    };
  }
  const sample = depth / 8;
  const step = CHANNELS[colour] * sample;
  if (colour === 6) return (line, n) => mix(line[1 + n * step], line[1 + n * step + sample], line[1 + n * step + 2 * sample], line[1 + n * step + 3 * sample]);
  const hides = key && depth === 8 ? (red, green, blue) => red === name(0) && green === name(2) && blue === name(4) : () => false;
  return (line, n) => {
    const [red, green, blue] = [line[1 + n * step], line[1 + n * step + sample], line[1 + n * step + 2 * sample]];
    return mix(red, green, blue, hides(red, green, blue) ? 0 : 255);
  };
}

/** A value on black. */
const fade = (value, alpha, opaque) => Math.floor((value * alpha) / opaque + 0.5);

/** Values of 16 bits, through the percentile window. */
function windowValues(values) {
  const counts = new Uint32Array(1 << 16);
  for (let i = 0; i < values.length; i++) counts[values[i]]++;
  const bytes = Uint8Array.from(windowPercentiles(Float64Array.from(counts.keys()), counts), toByte);
  const pixels = new Uint8Array(values.length);
  for (let i = 0; i < pixels.length; i++) pixels[i] = bytes[values[i]];
  return pixels;
}
