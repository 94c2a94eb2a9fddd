/**
 * Keeps one release of the app, with its model, for offline use. The server writes the line before this one: `RELEASE`, the version, the
 * sha256 of every file, and which of them are kept only once the page says that this browser needs them: a runtime's builds.
 *
 * A release gets a cache of its own, so a page never mixes two. A half-finished download leaves the old release as it is, and the next
 * attempt goes on where it stopped.
 */
const PREFIX = "edgekit-";
const CACHE = PREFIX + RELEASE.version;

self.addEventListener("install", (event) => event.waitUntil(keepRelease()));

self.addEventListener("activate", (event) => event.waitUntil(dropOthers().then(() => self.clients.claim())));

self.addEventListener("message", (event) => {
  if (event.data === "activate") self.skipWaiting();
  const { keep } = event.data;
  if (keep) event.waitUntil(keepFiles(keep.filter((path) => path in RELEASE.files)).then(() => event.ports[0].postMessage("kept")));
});

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (event.request.method === "GET" && origin === self.location.origin && pathname in RELEASE.files) event.respondWith(answer(event.request, pathname));
});

async function answer(request, path) {
  const cache = await caches.open(CACHE);
  return (await cache.match(path)) ?? fetch(request);
}

async function keepRelease() {
  const kept = await Promise.all(RELEASE.chosen.map((path) => findKept(path, RELEASE.files[path])));
  const unasked = RELEASE.chosen.filter((_, place) => !kept[place]);
  await keepFiles(Object.keys(RELEASE.files).filter((path) => !unasked.includes(path)));
}

async function keepFiles(paths) {
  const cache = await caches.open(CACHE);
  try {
    for (const path of paths) {
      if (await cache.match(path)) continue;
      const digest = RELEASE.files[path];
      const response = (await findKept(path, digest)) ?? (await fetch(path, { cache: "no-cache", integrity: `sha256-${digest}` }));
      if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
      await cache.put(path, response);
    }
  } catch (error) {
    if (error.name === "QuotaExceededError") {
      await caches.delete(CACHE); // what doesn't fit must not take the room of others
      for (const client of await self.clients.matchAll({ includeUncontrolled: true })) client.postMessage({ storage: "full" });
    }
    throw error;
  }
}

/** A file that an older release keeps already, by its hash, which the server sends as the entity tag. */
async function findKept(path, digest) {
  for (const name of await caches.keys()) {
    if (!name.startsWith(PREFIX) || name === CACHE) continue;
    const response = await (await caches.open(name)).match(path);
    if (response?.headers.get("ETag") === `"${digest}"`) return response;
  }
  return null;
}

async function dropOthers() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}
