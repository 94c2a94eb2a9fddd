// Copies the browser's runtime from node_modules to vendor/, which is served: WebAssembly only, and nothing is fetched from elsewhere.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const FILES = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
const source = new URL("node_modules/onnxruntime-web/", import.meta.url);
const target = new URL("vendor/onnxruntime-web/", import.meta.url);

const { version, license } = JSON.parse(readFileSync(new URL("package.json", source)));
if (license !== "MIT") throw new Error(`onnxruntime-web ${version} is under ${license}, not MIT: write another LICENSE`);
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const name of FILES) copyFileSync(new URL(`dist/${name}`, source), new URL(name, target));
copyFileSync(new URL("onnxruntime-web.LICENSE", import.meta.url), new URL("LICENSE", target));
