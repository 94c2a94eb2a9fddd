// Reads films with the app's own modules, outside of a browser: node read_films.mjs CODECS OUT. Of each line of the input, a path, it prints a
// line of JSON: the size of the film, whose pixels it writes to OUT/<number>, or the reason for which it is refused.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { decodeBytes } from "../../sample_app/public/js/decode.js";

const [codecs, out] = process.argv.slice(2);
const loadCodecs = () => WebAssembly.compile(readFileSync(codecs));

let isPicture = false;
globalThis.createImageBitmap = () => {
  isPicture = true;
  throw new TypeError("needs a browser");
};

let number = 0;
for await (const path of createInterface({ input: process.stdin })) {
  const answer = { file: path, number: number++ };
  isPicture = false;
  try {
    const { pixels, width, height, view, coloured } = await decodeBytes(new Uint8Array(readFileSync(path)), loadCodecs);
    writeFileSync(`${out}/${answer.number}`, pixels);
    Object.assign(answer, { width, height, view, coloured });
  } catch (error) {
    if (isPicture) answer.browser = true; // a JPEG picture, sound as far as its markers say
    else if (error.name === "Problem") Object.assign(answer, { reason: error.code, details: error.details });
    else answer.crash = error.stack;
  }
  console.log(JSON.stringify(answer));
}
