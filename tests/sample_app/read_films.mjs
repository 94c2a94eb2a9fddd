// Reads films with the app's own modules, outside of a browser: node read_films.mjs CODECS OUT [stored]. Of each line of the input, a path, it
// prints a line of JSON: the size of the film, whose pixels it writes to OUT/<number>, or the reason for which it is refused. With "stored" the
// stored values of DICOM films, 32-bit integers, go to OUT/<number>.stored.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { decodeStream } from "../../sample_app/public/js/codecs.js";
import { decodeBytes } from "../../sample_app/public/js/decode.js";
import { isDicom, readStored } from "../../sample_app/public/js/dicom.js";

const [codecs, out, stored] = process.argv.slice(2);
let compiled = null;
const decode = async (stream) => decodeStream(stream, await (compiled ??= WebAssembly.compile(readFileSync(codecs))));

let isPicture = false;
globalThis.createImageBitmap = () => {
  isPicture = true;
  throw new TypeError("needs a browser");
};

let number = 0;
for await (const path of createInterface({ input: process.stdin })) {
  const answer = { file: path, number: number++ };
  const bytes = new Uint8Array(readFileSync(path));
  isPicture = false;
  try {
    const { pixels, width, height, view, coloured } = await decodeBytes(bytes, decode);
    writeFileSync(`${out}/${answer.number}`, pixels);
    if (stored && isDicom(bytes)) {
      const { cells, values } = await readStored(bytes, decode);
      writeFileSync(`${out}/${answer.number}.stored`, Int32Array.from(cells, (cell) => values[cell]));
    }
    Object.assign(answer, { width, height, view, coloured });
  } catch (error) {
    if (isPicture) answer.browser = true; // a JPEG picture, sound as far as its markers say
    else if (error.name === "Problem") Object.assign(answer, { reason: error.code, details: error.details });
    else answer.crash = error.stack;
  }
  console.log(JSON.stringify(answer));
}
