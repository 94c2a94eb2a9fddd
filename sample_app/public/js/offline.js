/** Keeping the app on the device: service worker, updates, installation, and what happens when there is no room. */
import { find, toast } from "./screens.js";

let installation = null;

/**
 * @param {string[]} needed addresses of what this browser needs beside what all do
 * @param {() => void} whenKept called when the app works offline
 */
export async function keepOffline(needed, whenKept) {
  prepareInstallation();
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  serviceWorker.addEventListener("message", ({ data }) => {
    if (data.storage === "full") {
      toast("This device is low on space: the app works, but it can't be kept for offline use.", "Try again", () => register(needed, whenKept));
    }
  });
  let isUpdating = Boolean(serviceWorker.controller);
  serviceWorker.addEventListener("controllerchange", () => {
    if (isUpdating) location.reload();
    isUpdating = true;
  });
  await register(needed, whenKept);
}

async function register(needed, whenKept) {
  let registration;
  try {
    registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
  } catch {
    return; // offline, or a certificate that the browser doesn't trust: the app works as long as it is open
  }
  const offer = () => {
    if (!registration.waiting || !navigator.serviceWorker.controller) return;
    toast("A new version is ready.", "Update", () => registration.waiting?.postMessage("activate"));
  };
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", offer));
  offer();
  navigator.serviceWorker.ready.then(({ active }) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = whenKept;
    active.postMessage({ keep: needed.map((address) => new URL(address).pathname) }, [port2]);
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) registration.update().catch(() => {}); // offline: the next time
  });
}

function prepareInstallation() {
  const install = async () => {
    await installation?.prompt();
    installation = null;
    find("install").hidden = true;
  };
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    installation = event;
    find("install").hidden = false;
    toast("Keep edgekit on this device? It works in flight mode.", "Install", install);
  });
  find("install").addEventListener("click", install);
}
