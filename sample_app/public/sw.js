/**
 * Keeps one release of the app, with its model, for offline use. The server writes the line before this one: `RELEASE`, the version and the
 * sha256 of every file.
 *
 * A release gets a cache of its own, so a page never mixes two. A half-finished download leaves the old release as it is, and the next
 * attempt goes on where it stopped.
 */
const PREFIX = "edgekit-";
const CACHE = PREFIX + RELEASE.version;

self.addEventListener("install", (event) => event.waitUntil(keepRelease()));

self.addEventListener("activate", (event) => event.waitUntil(dropOthers().then(() => self.clients.claim())));

self.addEventListener("message", ({ data }) => {
  if (data === "activate") self.skipWaiting();
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
  const cache = await caches.open(CACHE);
  try {
    for (const [path, digest] of Object.entries(RELEASE.files)) {
      if (await cache.match(path)) continue;
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
