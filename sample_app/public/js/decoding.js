/** Compressed films are decoded in a worker of their own, by decoders that are fetched when the first such film needs them. */
import { Problem } from "./problems.js";
import { Helper } from "./workers.js";

const URL_OF_CODECS = new URL("../codecs/dcmjs-native-codecs.wasm", import.meta.url);
/** Many times what a slow phone takes, ms and ms a pixel. */
const PATIENCE = { least: 4000, pixel: 2e-3 };

let compiled = null;

/**
 * @param {import("./streams.js").Stream} stream of one component, whose size and bits have been checked
 * @returns {Promise<Uint8Array | Uint16Array>} see `decodeStream` in codecs.js
 * @throws {Problem} codecs, damaged
 */
export async function decodeApart(stream) {
  const codecs = await fetchCodecs();
  const decoder = new Helper(new URL("decoder.js", import.meta.url));
  const bytes = stream.bytes.slice();
  const giveUp = () => decoder.stop("damaged", { found: `its ${stream.coding} stream keeps the decoder busy without end` });
  const alarm = setTimeout(giveUp, PATIENCE.least + PATIENCE.pixel * stream.width * stream.height);
  try {
    return (await decoder.call("decode", { stream: { ...stream, bytes }, codecs }, [bytes.buffer])).cells;
  } finally {
    clearTimeout(alarm);
    decoder.stop();
  }
}

async function fetchCodecs() {
  compiled ??= WebAssembly.compileStreaming(fetch(URL_OF_CODECS));
  try {
    return await compiled;
  } catch (error) {
    compiled = null; // the next film tries again
    throw new Problem("codecs", { message: error.message });
  }
}
