// Images that go with the next message: chosen, pasted or dropped; small PNG and JPEG as they are.
"use strict";
const LARGEST_FILE = 1 << 20; // bytes that are sent as they are: a request has room for a dozen
const LONGEST_SIDE = 2048; // pixels to which others are shrunk
const FORMATS = { "image/png": [0x89, 0x50, 0x4e, 0x47], "image/jpeg": [0xff, 0xd8, 0xff] }; // by their first bytes
let attaching = Promise.resolve(); // until what was chosen so far has been read

const asUrl = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

// As the server reads it, whatever its name says that it is.
async function imageOf(file) {
  const image = await createImageBitmap(file);
  const begins = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const kind = Object.keys(FORMATS).find((name) => FORMATS[name].every((byte, n) => byte === begins[n]));
  const plain = kind && file.size <= LARGEST_FILE && Math.max(image.width, image.height) <= LONGEST_SIDE;
  return plain ? asUrl(file.slice(0, file.size, kind)) : redrawn(image);
}

function redrawn(image) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const drawing = canvas.getContext("2d");
  drawing.drawImage(image, 0, 0, canvas.width, canvas.height);
  const url = canvas.toDataURL("image/png");
  if (url.length < LARGEST_FILE) return url;
  drawing.globalCompositeOperation = "destination-over"; // JPEG has no transparency, and makes it black
  drawing.fillStyle = "white";
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}

// One choice after the other; what is sent meanwhile waits for them.
function attach(files, most) {
  const draft = draftOf(open); // they go there, wherever one is when they have been read
  attaching = attaching.then(() => readImages(draft, files, most));
  return attaching;
}

async function readImages(draft, files, most) {
  note("");
  for (const file of files) {
    if (!file.type.startsWith("image/")) { note(`${file.name} is no image`); continue; }
    if (draft.images.length >= most) {
      note(most ? `This model sees ${most} images at most` : "This model reads text alone");
      break;
    }
    try {
      draft.images.push({ name: file.name || "image", url: await imageOf(file) });
    } catch { note(`${file.name} cannot be read as an image`); }
  }
  showPending();
}

function note(text, ...buttons) {
  $("note").replaceChildren(text, ...buttons);
  $("note").hidden = !text;
}

function showPending() {
  const { images } = draftOf(open); // { name, url } each
  $("pending").hidden = !images.length;
  $("pending").replaceChildren(...images.map((one) => {
    const node = make("div", "thumb");
    const image = make("img");
    image.src = one.url;
    image.alt = one.name;
    node.append(image, action("✕", `Leave ${one.name} out`, () => {
      images.splice(images.indexOf(one), 1);
      showPending();
      $("text").focus();
    }));
    return node;
  }));
}

function watchForImages(most) {
  const wanted = (transfer) => [...(transfer?.items ?? [])].some((item) => item.kind === "file");
  $("attach").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", async () => {
    await attach([...$("files").files], most());
    $("files").value = "";
    $("text").focus();
  });
  $("text").addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    // of cells and paragraphs there is a picture too; of a file, its name alone
    const written = ["text/html", "text/plain"].every((kind) => event.clipboardData.getData(kind).trim());
    if (files.length && !written) { event.preventDefault(); attach(files, most()); }
  });
  addEventListener("dragover", (event) => {
    if (wanted(event.dataTransfer)) { event.preventDefault(); document.body.classList.add("dropping"); }
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    const files = [...event.dataTransfer.files];
    if (files.length) { event.preventDefault(); attach(files, most()); }
  });
}
