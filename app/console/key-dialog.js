// Asks for an API key, and keeps one only if the server takes it.

import { field, h } from "./dom.js";
import { errorPlace, openDialog } from "./notices.js";
import { currentKey, looksLikeKey, useKey } from "./session.js";

/** Opens the dialog, unless it is open. `check` asks the server for anything with the key in use. */
export function askForKey(error, check) {
  if (document.getElementById("key-form")) return;
  const errors = errorPlace();
  errors.show(error);
  const input = h("input", {
    type: "password",
    required: true,
    autocomplete: "off",
    spellcheck: false,
    placeholder: "flora-…",
  });
  const cancel = h("button", { type: "button", className: "secondary" }, "Cancel");
  const use = h("button", { type: "submit" }, "Use key");
  const hint = "Kept in this tab until it is closed, and sent to this server alone.";
  const form = h(
    "form",
    { id: "key-form" },
    h("p", {}, "This server asks for an API key. An administrator makes one with: flora keys create."),
    field("API key", input, hint),
    errors,
    h("div", { className: "buttons" }, cancel, use),
  );
  const dialog = openDialog("Sign in", form);
  input.focus();
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const refused = await tried(input.value, check);
    if (refused) errors.show(refused);
    else dialog.close();
  });
}

/** Uses a key; goes back to the one before where the server does not know it. */
async function tried(text, check) {
  if (!looksLikeKey(text)) return { message: "That is no API key.", code: "invalid_api_key" };
  const before = currentKey();
  useKey(text);
  try {
    await check();
  } catch (error) {
    // Any other refusal is that of a key that is known.
    if (error.code === "invalid_api_key" || error.code === "unreachable") {
      useKey(before);
      return error;
    }
  }
  return null;
}
