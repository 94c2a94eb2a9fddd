// Copies the browser's runtime and the decoders of films from node_modules to vendor/, which is served: nothing is fetched from elsewhere.
import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename } from "node:path";

const PACKAGES = [
  { name: "onnxruntime-web", files: ["dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"], notices: "onnxruntime-web.LICENSE" },
  { name: "dcmjs-codecs", files: ["build/dcmjs-native-codecs.wasm"], notices: "dcmjs-codecs.LICENSE" },
];

for (const { name, files, notices } of PACKAGES) {
  const source = new URL(`node_modules/${name}/`, import.meta.url);
  const target = new URL(`vendor/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(readFileSync(new URL("package.json", source)));
  if (license !== "MIT") throw new Error(`${name} ${version} is under ${license}, not MIT: write another ${notices}`);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const file of files) copyFileSync(new URL(file, source), new URL(basename(file), target));
  copyFileSync(new URL(notices, import.meta.url), new URL("LICENSE", target));
}
