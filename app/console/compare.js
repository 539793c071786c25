// One prompt, answered by the base model and by adapters, side by side as the tokens come.

import { call } from "./api.js";
import { field, h, newId, say } from "./dom.js";
import { firstDifference } from "./format.js";
import { Lane } from "./lane.js";
import { errorPlace } from "./notices.js";

const MAX_LANES = 4;
const PROMPT = "What is the capital of France?";

export function compareView(_, query) {
  const errors = errorPlace();
  const prompt = h("textarea", { rows: 3, required: true, value: query.get("prompt") ?? PROMPT, maxLength: 20_000 });
  const mode = h("select", {}, h("option", { value: "chat" }, "Chat"), h("option", { value: "text" }, "Plain text"));
  const tokens = h("input", { type: "number", min: 1, max: 4096, value: "96", required: true });
  const heat = h("input", { type: "number", min: 0, max: 2, step: 0.1, value: "0", required: true });
  const seed = h("input", { type: "number", min: 0, step: 1, value: "7" });
  const go = h("button", { type: "submit" }, "Ask all");
  const stop = h("button", { type: "button", className: "secondary", disabled: true }, "Stop");
  const more = h("button", { type: "button", className: "secondary" }, "Add a column");
  const verdict = h("p", { className: "verdict", role: "status" });
  const names = h("datalist", { id: newId() });
  const row = h("div", { className: "lanes" });
  const form = h(
    "form",
    { className: "panel" },
    field("Prompt", prompt),
    h(
      "div",
      { className: "fields" },
      field("Format", mode),
      field("Most tokens", tokens),
      field("Temperature", heat),
      field("Seed", seed),
      h("div", { className: "buttons" }, more, stop, go),
    ),
  );
  const element = h(
    "section",
    {},
    h("div", { className: "title" }, h("h1", { tabIndex: -1 }, "Compare")),
    errors,
    form,
    verdict,
    row,
    names,
  );
  let lanes = [];
  let running = null;
  let bases = [];

  function addLane(choice) {
    const lane = new Lane({ names, bases, onRemove: () => removeLane(lane) }, choice);
    lanes.push(lane);
    row.append(lane.element);
    update();
  }

  function removeLane(lane) {
    lane.stop();
    lane.element.remove();
    lanes = lanes.filter((each) => each !== lane);
    update();
  }

  function update() {
    more.disabled = lanes.length >= MAX_LANES;
    for (const lane of lanes) lane.setRemovable(lanes.length > 2 && !running);
    go.disabled = running !== null;
    stop.disabled = running === null;
  }

  async function begin() {
    const found = await call("models", { query: { limit: 500 } });
    bases = found.data.filter((each) => each.parent === null).map((each) => each.id);
    const adapters = found.data.filter((each) => each.parent !== null).map((each) => each.id.slice(each.parent.length + 1));
    names.replaceChildren(...adapters.map((name) => h("option", { value: name })));
    const base = bases.includes(query.get("base")) ? query.get("base") : bases[0];
    addLane({ base, adapter: "", version: "" });
    const adapter = query.get("adapter") ?? adapters[0] ?? "";
    addLane({ base, adapter, version: "" });
    if (query.get("version")) addLane({ base, adapter, version: query.get("version") });
  }

  function question() {
    const sampling = { max_tokens: tokens.valueAsNumber, temperature: heat.valueAsNumber };
    if (seed.value !== "") sampling.seed = seed.valueAsNumber;
    if (mode.value === "text") return { path: "completions", body: { ...sampling, prompt: prompt.value } };
    const messages = [{ role: "user", content: prompt.value }];
    return { path: "chat/completions", body: { ...sampling, messages } };
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    say(verdict, "");
    update();
    const asked = question();
    await Promise.all(lanes.map((lane) => lane.ask(asked, running.signal)));
    running = null;
    say(verdict, judgement(lanes));
    update();
  });
  stop.addEventListener("click", () => running?.abort());
  more.addEventListener("click", () => addLane({ base: lanes.at(-1).base, adapter: lanes.at(-1).adapter, version: "" }));
  return {
    element,
    start: () => begin().catch((error) => errors.show(error)),
    stop: () => running?.abort(),
  };
}

/** Whether the answers differ, in a sentence. */
export function judgement(lanes) {
  const whole = lanes.filter((lane) => lane.isWhole);
  if (whole.length < 2) return "";
  const places = whole.slice(1).map((lane) => firstDifference(whole[0].text, lane.text));
  if (places.every((place) => place < 0)) return "All answers are the same.";
  const first = Math.min(...places.filter((place) => place >= 0));
  return first === 0 ? "The answers differ from their first character." : `The answers differ after ${first} characters.`;
}
