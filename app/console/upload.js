// Publishing an adapter: files by picker or drop, how far they have come, and what became of them.

import { call, upload } from "./api.js";
import { field, h, newId, say } from "./dom.js";
import { bytes, digest } from "./format.js";
import { errorPlace, openDialog } from "./notices.js";

const OTHER_FORMATS = /\.(bin|ckpt|gguf|pickle|pkl|pt|pth)$/i;

/** Which of some files are an adapter's: one `.safetensors`, maybe one `.json`; and what is not. */
export function sortFiles(files) {
  const weights = files.filter((file) => file.name.endsWith(".safetensors"));
  const configs = files.filter((file) => file.name.endsWith(".json"));
  const other = files.find((file) => OTHER_FORMATS.test(file.name));
  if (other) return { problem: `${other.name}: only safetensors is read, no other format.` };
  if (weights.length > 1) return { problem: "Choose one .safetensors file: several lie there." };
  const config = configs.find((file) => file.name === "adapter_config.json") ?? configs[0];
  return { weights: weights[0], config };
}

/** Opens the dialog. `onPublished` is called with the new version. */
export function openUpload({ name = "", base = "", onPublished }) {
  const errors = errorPlace();
  const nameInput = h("input", {
    type: "text",
    required: true,
    value: name,
    readOnly: Boolean(name),
    pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,95}",
    title: "1 to 96 letters, digits, '.', '_' and '-', a letter or digit first",
    autocomplete: "off",
    spellcheck: false,
  });
  const model = h("select");
  const modelField = field("Base model", model);
  modelField.hidden = true;
  const picker = h("input", { type: "file", multiple: true, accept: ".safetensors,.json", id: newId() });
  const chosen = h("p", { className: "chosen", "aria-live": "polite" }, "No files yet.");
  const zone = h(
    "div",
    { className: "drop" },
    h("label", { htmlFor: picker.id }, "Adapter files"),
    h("p", { className: "hint" }, "Drop them here, or choose them: adapter_model.safetensors with adapter_config.json, or one .safetensors that carries its config."),
    picker,
    chosen,
  );
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const stage = h("p", { className: "hint", role: "status" });
  const progress = h("div", { className: "progress", hidden: true }, bar, stage);
  const cancel = h("button", { type: "button", className: "secondary" }, "Cancel");
  const publish = h("button", { type: "submit" }, "Publish");
  const form = h(
    "form",
    { className: "upload" },
    h("p", {}, "Publishing checks the files and makes them the current version. The next request for the name sees it; older versions stay, and can be rolled back to."),
    field("Name", nameInput, "Requests ask for it as base:name."),
    modelField,
    zone,
    progress,
    errors,
    h("div", { className: "buttons" }, cancel, publish),
  );
  const dialog = openDialog(name ? `Upload a new version of ${name}` : "Upload an adapter", form);
  const stop = new AbortController();
  let files = {};
  let isBusy = false;

  function take(list) {
    files = sortFiles([...list]);
    errors.show(files.problem ? { message: files.problem, code: "invalid_adapter" } : null);
    const parts = [files.weights, files.config].filter(Boolean);
    say(chosen, parts.length ? parts.map((file) => `${file.name} (${bytes(file.size)})`).join(", ") : "No files yet.");
  }

  picker.addEventListener("change", () => take(picker.files));
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop" && !isBusy) take(event.dataTransfer.files);
    });
  }
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => stop.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy) return;
    if (!files.weights) {
      errors.show({ message: files.problem ?? "Choose a .safetensors file first.", code: "invalid_adapter" });
      return;
    }
    isBusy = publish.disabled = true;
    progress.hidden = false;
    errors.show(null);
    try {
      const adapter = nameInput.value.trim();
      const before = await currentVersion(adapter);
      const made = await send(adapter, modelField.hidden ? "" : model.value, files, stop.signal, (done, all) => {
        bar.value = all ? done / all : 0;
        say(stage, done < all ? `${bytes(done)} of ${bytes(all)} sent` : "Sent. The server checks and compiles it.");
      });
      finish(dialog, form, made, before);
      onPublished(made);
    } catch (error) {
      progress.hidden = true;
      if (error.name !== "AbortError") errors.show(error);
    }
    isBusy = publish.disabled = false;
  });
  offerModels(model, base).then((isNeeded) => (modelField.hidden = !isNeeded));
}

/** The base models to choose from; whether there is anything to choose. */
async function offerModels(select, base) {
  try {
    const page = await call("models", { query: { limit: 100 } });
    const bases = page.data.filter((each) => each.parent === null).map((each) => each.id);
    select.append(...bases.map((id) => h("option", { value: id, selected: id === base }, id)));
    return bases.length > 1;
  } catch {
    // The key may lack the scope; the server says so where a model is needed.
    return false;
  }
}

async function currentVersion(name) {
  try {
    return (await call(`adapters/${encodeURIComponent(name)}`)).version;
  } catch (error) {
    if (error.code === "model_not_found" || error.code === "insufficient_scope") return null;
    throw error;
  }
}

function send(name, model, { weights, config }, signal, onProgress) {
  const options = { query: { model }, signal, onProgress };
  const path = `adapters/${encodeURIComponent(name)}`;
  if (!config) return upload(path, { ...options, body: weights, type: "application/octet-stream" });
  const body = new FormData();
  body.append("config", config, "adapter_config.json");
  body.append("weights", weights, "adapter_model.safetensors");
  return upload(path, { ...options, body });
}

/** What was published takes the form's place. */
function finish(dialog, form, made, before) {
  const isNew = made.version !== before;
  const words = isNew
    ? `${made.name} is published as version ${made.version}.`
    : `Nothing changed: version ${made.version} of ${made.name} has these bytes already.`;
  const query = new URLSearchParams({ adapter: made.name, base: made.id.split(":")[0] });
  const close = h("button", { type: "button", className: "secondary", on: { click: () => dialog.close() } }, "Close");
  const compare = h("a", { className: "button", href: `#/compare?${query}`, on: { click: () => dialog.close() } }, "Compare with base");
  const rows = [["Model name", made.id], ["Digest", digest(made.digest)], ["Size", bytes(made.size_bytes)], ["Rank", String(made.rank)], ["Modules", String(made.num_modules)]];
  form.replaceWith(
    h("p", { className: "notice good", role: "status" }, h("strong", {}, words)),
    h("dl", { className: "facts" }, ...rows.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)))),
    h("div", { className: "buttons" }, close, compare),
  );
  compare.focus();
}
