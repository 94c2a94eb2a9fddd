/**
 * The decoders of JPEG (all processes that are read, 8 to 16 bits), JPEG-LS, JPEG 2000 and HTJ2K: the WebAssembly of npm's dcmjs-codecs (the
 * Independent JPEG Group's libjpeg, CharLS, OpenJPEG), called directly. Its own JavaScript needs eval, which the page forbids.
 *
 * Measured on 8, 10, 12 and 16 bits, signed and unsigned (tests/sample_app/test_codecs.py): lossless streams come out as they were encoded,
 * JPEG as DCMTK decodes it. HTJ2K goes through OpenJPEG too: OpenJPH, which is in there as well, hides damage and loses the sign of 8 bits.
 */
import { Problem } from "./problems.js";

const DECODERS = { JPEG: "DecodeJpeg", "JPEG lossless": "DecodeJpeg", "JPEG-LS": "DecodeJpegLs", "JPEG 2000": "DecodeJpeg2000" };
/** What libjpeg only warns of: it goes on with invented pixels. */
const DAMAGE = /Corrupt JPEG data: (premature|bad|found)|Premature end/;

/**
 * @param {import("./streams.js").Stream} stream of one component, whose size and bits have been checked
 * @param {WebAssembly.Module} codecs
 * @returns {Uint8Array | Uint16Array} the bit patterns of its samples, row by row; those of a signed stream fill the cell
 * @throws {Problem} damaged
 */
export function decodeStream({ coding, bytes, width, height, bits, signed }, codecs) {
  const warnings = [];
  // an instance for each film: a damaged one leaves nothing behind, and all memory goes back
  const { memory, ...api } = instantiate(codecs, warnings);
  const cell = bits <= 8 ? 1 : 2;
  const context = api.CreateCodecsContext();
  const settings = { Columns: width, Rows: height, BitsAllocated: 8 * cell, BitsStored: bits, SamplesPerPixel: 1, PixelRepresentation: Number(signed) };
  for (const [name, value] of Object.entries(settings)) api[`Set${name}`](context, value);
  let decoded;
  try {
    api.SetEncodedBufferSize(context, bytes.length);
    new Uint8Array(memory.buffer).set(bytes, api.GetEncodedBuffer(context));
    api[DECODERS[coding]](context, api.CreateDecoderParameters());
    decoded = memory.buffer.slice(api.GetDecodedBuffer(context), api.GetDecodedBuffer(context) + api.GetDecodedBufferSize(context));
  } catch (error) {
    throw new Problem("damaged", { found: `its ${coding} stream can't be decoded (${error.message})` });
  }
  const fault = warnings.find((text) => DAMAGE.test(text));
  if (fault) throw new Problem("damaged", { found: `its ${coding} stream is damaged (${fault.replace(/^.*::/, "")})` });
  if (decoded.byteLength !== cell * width * height) {
    throw new Problem("damaged", { found: `its ${coding} stream gives ${decoded.byteLength} bytes, expected ${cell * width * height}` });
  }
  return cell === 1 ? new Uint8Array(decoded) : new Uint16Array(decoded);
}

/** @returns {object} the functions of the decoders, and their memory */
function instantiate(codecs, warnings) {
  let api;
  const read = (at, length) => new TextDecoder("latin1").decode(new Uint8Array(api.memory.buffer, at, length));
  const fail = (reason) => {
    throw new Error(reason);
  };
  const env = {
    onCodecsException: (at, length) => fail(read(at, length).replace(/^.*::/, "")),
    onCodecsInfo: (at, length) => warnings.push(read(at, length)),
    onCodecsTrace: () => {},
    emscripten_notify_memory_growth: () => {},
  };
  const system = {
    proc_exit: () => fail("it gave up"),
    clock_time_get: () => 0,
    environ_sizes_get: (count, size) => {
      new DataView(api.memory.buffer).setUint32(count, 0, true);
      new DataView(api.memory.buffer).setUint32(size, 0, true);
      return 0;
    },
    environ_get: () => 0,
    fd_write: (_file, _parts, _count, written) => {
      new DataView(api.memory.buffer).setUint32(written, 0, true);
      return 0;
    },
    fd_close: () => 0,
    fd_seek: () => 0,
  };
  api = new WebAssembly.Instance(codecs, { env, wasi_snapshot_preview1: system }).exports;
  api._initialize();
  return api;
}
