// One column of a comparison: which model, its answer as it comes, and how long it took.

import { call, stream } from "./api.js";
import { field, h, say } from "./dom.js";
import { count } from "./format.js";
import { errorPlace } from "./notices.js";

export class Lane {
  /** `names` is the list of adapters to offer, `bases` are the base models. */
  constructor({ names, bases, onRemove }, { base, adapter, version }) {
    this.text = "";
    this.isWhole = false;
    this.errors = errorPlace();
    this.baseSelect = h("select", {}, ...bases.map((id) => h("option", { value: id, selected: id === base }, id)));
    this.input = h("input", { type: "text", list: names.id, value: adapter, placeholder: "base model", autocomplete: "off", spellcheck: false });
    this.versions = h("select");
    this.title = h("h2", { className: "mono" });
    this.remove = h("button", { type: "button", className: "plain", on: { click: onRemove } }, "Remove");
    this.answer = h("div", { className: "answer", tabIndex: 0, role: "region" });
    this.facts = h("p", { className: "hint facts-line" });
    this.waiting = new AbortController();
    const baseField = field("Base model", this.baseSelect);
    baseField.hidden = bases.length < 2;
    this.element = h(
      "article",
      { className: "lane card" },
      h("header", {}, this.title, this.remove),
      h("div", { className: "fields" }, baseField, field("Adapter", this.input), field("Version", this.versions)),
      this.errors,
      this.answer,
      this.facts,
    );
    this.input.addEventListener("change", () => this.offerVersions(""));
    for (const control of [this.baseSelect, this.versions]) control.addEventListener("change", () => this.label());
    this.offerVersions(version);
  }

  get base() {
    return this.baseSelect.value;
  }

  get adapter() {
    return this.input.value.trim();
  }

  /** What the API calls the model: `base`, `base:adapter` or `base:adapter@version`. */
  get model() {
    if (!this.adapter) return this.base;
    return `${this.base}:${this.adapter}${this.versions.value ? `@${this.versions.value}` : ""}`;
  }

  setRemovable(isRemovable) {
    this.remove.hidden = !isRemovable;
  }

  stop() {
    this.waiting.abort();
  }

  label() {
    say(this.title, this.model);
    this.answer.setAttribute("aria-label", `Answer of ${this.model}`);
  }

  /** The versions that are kept, if they can be seen: a shared adapter's cannot. */
  async offerVersions(wanted) {
    const name = this.adapter;
    const option = (value, text) => h("option", { value, selected: value === wanted }, text);
    this.versions.replaceChildren(option("", "current"), ...(wanted ? [option(wanted, wanted)] : []));
    this.versions.disabled = !name;
    this.label();
    if (!name || name.includes("/")) return;
    const found = await call(`adapters/${encodeURIComponent(name)}`).catch(() => null);
    if (!found || this.adapter !== name) return;
    const numbers = found.versions.map((each) => String(each.version)).reverse();
    this.versions.replaceChildren(option("", `current (${found.version})`), ...numbers.map((number) => option(number, number)));
    this.label();
  }

  /** Streams the answer to `{ path, body }`; an error is shown here and ends it here alone. */
  async ask({ path, body }, signal) {
    this.waiting = new AbortController();
    this.errors.show(null);
    this.text = "";
    this.isWhole = false;
    say(this.facts, "Waiting for the first token");
    this.answer.replaceChildren();
    this.element.classList.add("is-asking");
    const told = { startMs: performance.now(), firstMs: 0, reason: "", usage: null, fingerprint: "" };
    try {
      const both = AbortSignal.any([signal, this.waiting.signal]);
      for await (const event of stream(path, { ...body, model: this.model }, both)) this.take(event, told);
      this.isWhole = true;
      if (!this.text) this.answer.append(h("span", { className: "hint" }, "An empty answer."));
    } catch (error) {
      if (error.name !== "AbortError") this.errors.show(error);
      told.reason = error.name === "AbortError" ? "stopped" : "error";
    }
    this.element.classList.remove("is-asking");
    say(this.facts, summary(told));
  }

  take(event, told) {
    told.usage = event.usage ?? told.usage;
    told.fingerprint = event.system_fingerprint || told.fingerprint;
    for (const choice of event.choices) {
      const piece = choice.text ?? choice.delta.content ?? "";
      if (piece) {
        told.firstMs ||= performance.now();
        this.text += piece;
        this.answer.append(piece);
      }
      told.reason = choice.finish_reason ?? told.reason;
    }
    say(this.facts, summary(told));
  }
}

/** First token, tokens, speed, how it ended and what answered, as far as it is known. */
function summary({ startMs, firstMs, reason, usage, fingerprint }) {
  const parts = [];
  if (firstMs) parts.push(`first token after ${count(firstMs - startMs)} ms`);
  if (usage) {
    parts.push(`${usage.completion_tokens} tokens`);
    const seconds = (performance.now() - firstMs) / 1000;
    if (firstMs && usage.completion_tokens > 1 && seconds > 0.001) parts.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s`);
  }
  if (reason) parts.push(reason);
  if (fingerprint) parts.push(fingerprint);
  return parts.join(" · ");
}
