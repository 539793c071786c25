// What the page says beside its data: errors with their code, how fresh it is, toasts, questions.

import { h, say } from "./dom.js";
import { span } from "./format.js";
import { isStale } from "./poll.js";

/** An error as the API told it: its message, its code, and what to quote when asking for help. */
export function errorNotice(error) {
  const place = error.param ? ` in ${error.param}` : "";
  const id = error.requestId ? `request ${error.requestId}` : "";
  return h(
    "div",
    { className: "notice error", role: "alert" },
    h("strong", {}, error.message),
    h("span", { className: "code" }, `${error.code ?? error.name}${place}`),
    id && h("span", { className: "hint" }, id),
  );
}

/** A place that shows one error at a time, or none. */
export function errorPlace() {
  const place = h("div", { className: "error-place" });
  place.show = (error) => place.replaceChildren(...(error ? [errorNotice(error)] : []));
  return place;
}

/** How fresh a poller's data is, in words and colour, with a button to ask now. */
export class Freshness {
  constructor(poller) {
    this.poller = poller;
    this.text = h("span", {}, "Loading");
    const ask = { type: "button", className: "plain", on: { click: () => poller.refresh() } };
    this.element = h(
      "p",
      { className: "freshness loading" },
      h("span", { className: "dot", "aria-hidden": "true" }),
      this.text,
      h("button", ask, "Refresh"),
    );
  }

  start() {
    this.timer = setInterval(() => this.update(), 1000);
  }

  stop() {
    clearInterval(this.timer);
  }

  update() {
    const { seenMs, failures, nextMs } = this.poller.state;
    const now = Date.now();
    const age = seenMs ? span((now - seenMs) / 1000) : "";
    const isOld = seenMs && isStale(now - seenMs, this.poller.intervalMs);
    const again = failures && nextMs > now ? `, trying again in ${span((nextMs - now) / 1000)}` : "";
    let kind = "live";
    let words = `Live, updated ${age} ago`;
    if (!seenMs) [kind, words] = failures ? ["stale", `No data${again}`] : ["loading", "Loading"];
    else if (failures || isOld) [kind, words] = ["stale", `Stale: last updated ${age} ago${again}`];
    this.element.className = `freshness ${kind}`;
    say(this.text, words);
  }
}

/** A short message that goes away by itself. */
export function toast(text) {
  const note = h("p", { className: "toast" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

/** A dialog that is closed by its buttons, by Escape, and is gone then. */
export function openDialog(title, ...content) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { "aria-labelledby": heading.id }, heading, ...content);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before something is done. `action` runs while the dialog stays; what it throws is shown
 * there. Resolves to whether it was done.
 */
export function confirmed(title, explanation, verb, action) {
  return new Promise((resolve) => {
    const errors = errorPlace();
    const cancel = h("button", { type: "button", className: "secondary" }, "Cancel");
    const go = h("button", { type: "submit" }, verb);
    const form = h(
      "form",
      { method: "dialog" },
      ...explanation.map((text) => h("p", {}, text)),
      errors,
      h("div", { className: "buttons" }, cancel, go),
    );
    const dialog = openDialog(title, form);
    let isDone = false;
    cancel.addEventListener("click", () => dialog.close());
    cancel.focus();
    dialog.addEventListener("close", () => resolve(isDone));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        await action();
        isDone = true;
        dialog.close();
      } catch (error) {
        errors.show(error);
        go.disabled = false;
      }
    });
  });
}
