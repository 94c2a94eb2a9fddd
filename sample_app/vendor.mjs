// Copies the browsers' runtimes and the decoders of films from node_modules to vendor/, which is served: nothing is fetched from elsewhere.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

const LITERT = ["", "compat_", "threaded_"].flatMap((build) => ["js", "wasm"].map((kind) => `wasm/litert_wasm_${build}internal.${kind}`));

const PACKAGES = [
  { name: "onnxruntime-web", licence: "MIT", files: ["dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"] },
  { name: "@litertjs/core", licence: "Apache-2.0", files: LITERT, folder: "litert" },
  { name: "dcmjs-codecs", licence: "MIT", files: ["build/dcmjs-native-codecs.wasm"] },
];

for (const { name, licence, files, folder = name } of PACKAGES) {
  const source = new URL(`node_modules/${name}/`, import.meta.url);
  const target = new URL(`vendor/${folder}/`, import.meta.url);
  const notices = `${folder}.LICENSE`;
  const { version, license } = JSON.parse(readFileSync(new URL("package.json", source)));
  if (license !== licence) throw new Error(`${name} ${version} is under ${license}, not ${licence}: write another ${notices}`);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const file of files) copyFileSync(new URL(file, source), new URL(basename(file), target));
  copyFileSync(new URL(notices, import.meta.url), new URL("LICENSE", target));
}

// LiteRT.js imports one package by its bare name, which no browser finds: it gets the address beside it.
const [modules, litert] = ["node_modules/@litertjs/", "vendor/litert/"].map((folder) => new URL(folder, import.meta.url));
const code = readFileSync(new URL("core/dist/index.js", modules), "utf8");
const [bare, beside] = ["@litertjs/wasm-utils", "./wasm-utils.js"].map((name) => `from "${name}";`);
if (code.split(bare).length !== 2) throw new Error("@litertjs/core no longer imports @litertjs/wasm-utils once: look at its dist/index.js");
writeFileSync(new URL("litert.js", litert), code.replace(bare, beside));
copyFileSync(new URL("wasm-utils/dist/index.js", modules), new URL("wasm-utils.js", litert));
