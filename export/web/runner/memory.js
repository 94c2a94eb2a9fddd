/**
 * What this browser found out about a bundle, so that it is found out once: one entry for each bundle's address, in Cache Storage. A browser
 * that keeps nothing (a private window, a full disk) finds it out each time, and says so in its console.
 *
 * @module
 */

/** The app's service worker clears away the caches of its old releases, which begin with "edgekit-": this one is none. */
const CACHE = "checked-bundles";

/**
 * Name what a check of the golden vectors holds for: this bundle, this runtime, this browser, and what it tells of its machine.
 *
 * @param {object} manifest its hash stands for all that the bundle is
 * @param {string} runtime its version
 * @param {string[]} ways the names of the ways that can be chosen from
 * @returns {Promise<string>}
 */
export async function identify(manifest, runtime, ways) {
  const { userAgent, userAgentData, hardwareConcurrency, deviceMemory } = navigator;
  const asked = userAgentData?.getHighEntropyValues(["architecture", "bitness", "model", "platformVersion"]);
  const machine = await asked?.catch(() => null); // a page inside another may be forbidden to ask
  return JSON.stringify([manifest.manifest_sha256, runtime, ways, userAgent, machine, hardwareConcurrency, deviceMemory]);
}

/**
 * @param {URL} folder the bundle's
 * @param {string} identity of `identify`
 * @returns {Promise<object | null>} what was remembered; null when it was for something else
 */
export async function recall(folder, identity) {
  const entry = await useCache(async (cache) => (await cache.match(folder))?.json());
  return entry?.identity === identity ? entry.found : null;
}

/**
 * @param {URL} folder
 * @param {string} identity
 * @param {object} found
 */
export async function remember(folder, identity, found) {
  await useCache((cache) => cache.put(folder, new Response(JSON.stringify({ identity, found }))));
}

/** @param {URL} folder */
export async function forget(folder) {
  await useCache((cache) => cache.delete(folder));
}

async function useCache(use) {
  try {
    return await use(await caches.open(CACHE));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    console.warn(`edgekit: this browser keeps nothing, so the golden vectors are checked each time: ${error.message}`);
    return null;
  }
}
