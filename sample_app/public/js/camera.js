/** The camera with its guide frame. */
import { Problem } from "./problems.js";
import { enter, find, leave } from "./screens.js";

const WANTED = { facingMode: { ideal: "environment" }, width: { ideal: 3840 }, height: { ideal: 2160 } };

/**
 * Let the user take a photo.
 *
 * @returns {Promise<ImageBitmap | Blob | null>} the photo, a file chosen instead, or null when the user goes back
 * @throws {Problem} the camera is refused or missing
 */
export async function takePhoto() {
  const [video, shutter] = [find("video"), find("shutter")];
  shutter.disabled = true;
  let stream = null;
  let isOpen = true;
  const taken = new Promise((done) => {
    enter("camera", () => done(null));
    // The frame of this very moment, however the phone is turned now.
    shutter.onclick = async () => {
      shutter.disabled = true;
      done(await createImageBitmap(video));
    };
    find("camera-cancel").onclick = () => {
      leave();
      done(null);
    };
    find("camera").querySelector("input").onchange = ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) done(file);
    };
  });
  const stop = () => {
    isOpen = false;
    stream?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  const started = (async () => {
    stream = await navigator.mediaDevices.getUserMedia({ video: WANTED, audio: false });
    if (!isOpen) return stop();
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
  })();
  try {
    return await Promise.race([taken, started.then(() => taken)]);
  } catch (error) {
    if (!isOpen) return null;
    leave();
    throw new Problem("camera", { reason: error.name });
  } finally {
    stop();
  }
}
