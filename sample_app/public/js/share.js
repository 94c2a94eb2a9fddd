/** An answer leaves the app as a picture, when the user says so, and without the films unless the user says that too. */
import { drawAnswer } from "./drawing.js";
import { find } from "./screens.js";

/** @param {() => object} getAnswer what is shown now */
export function prepareSharing(getAnswer) {
  find("open-share").addEventListener("click", () => {
    find("share-films").checked = false;
    find("share").showModal();
  });
  find("share-now").addEventListener("click", async () => {
    const blob = await drawAnswer(getAnswer(), find("share-films").checked);
    const file = new File([blob], "edgekit-answer.png", { type: "image/png" });
    find("share").close();
    if (navigator.canShare?.({ files: [file] })) {
      await navigator.share({ files: [file] }).catch((error) => {
        if (error.name !== "AbortError") save(file);
      });
    } else {
      save(file);
    }
  });
}

function save(file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
