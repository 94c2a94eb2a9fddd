/**
 * What is fetched, and whether it is what was promised. No DOM.
 *
 * @module
 */

/**
 * @param {URL} url
 * @param {(received: number) => void} [onReceived] called with the bytes so far
 * @returns {Promise<Uint8Array>}
 * @throws {Error} with the reason behind the file's name
 */
export async function fetchBytes(url, onReceived) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`is missing (HTTP ${response.status})`);
  if (!onReceived) return new Uint8Array(await response.arrayBuffer());
  const parts = [];
  let received = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    onReceived((received += part.value.length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** @param {Uint8Array} bytes @returns {Promise<string>} sha256, hexadecimal */
export async function hashBytes(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A file of the runtime is missing, or another than the one that the bundle was checked with. */
export class RuntimeFileError extends Error {
  name = "RuntimeFileError";
}

/**
 * Fetch files of a runtime, and check their hashes.
 *
 * @param {URL} folder
 * @param {Object<string, string>} hashes sha256 by name
 * @param {string} remedy what to do where one differs
 * @returns {Promise<Object<string, Uint8Array>>} contents by name
 * @throws {RuntimeFileError}
 */
export async function fetchRuntime(folder, hashes, remedy) {
  const read = async ([name, hash]) => {
    const url = new URL(name, folder);
    const refuse = (reason) => new RuntimeFileError(`${url.pathname} ${reason}: ${remedy}`);
    const content = await fetchBytes(url).catch((error) => {
      if (error instanceof TypeError) throw error; // the network, not the file
      throw refuse(error.message);
    });
    if ((await hashBytes(content)) !== hash) throw refuse("is not the file that it should be (its sha256 differs)");
    return [name, content];
  };
  return Object.fromEntries(await Promise.all(Object.entries(hashes).map(read)));
}
