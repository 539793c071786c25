// Elements from data. Text is only ever set as text: nothing here, and nothing that uses it, parses markup.

/**
 * A new element. `props` are its properties; those with a dash, and `role`, are attributes,
 * `on` maps events to listeners. Children are nodes or text; null and false are left out.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name.includes("-") || name === "role" || name === "list" || name === "for") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Shows `items` in `parent`, in their order, a node each: made anew by `build` where the item has
 * changed, else kept with focus and selection. `keyOf` tells items apart.
 */
export function keyed(parent, items, keyOf, build) {
  const old = parent.keyedNodes ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const signature = JSON.stringify(item);
    const known = old.get(key);
    if (known?.signature === signature) {
      now.set(key, known);
      continue;
    }
    const node = build(item);
    now.set(key, { signature, node });
    if (known?.node.contains(document.activeElement)) {
      const at = focusables(known.node).indexOf(document.activeElement);
      queueMicrotask(() => focusables(node)[at]?.focus());
    }
  }
  parent.keyedNodes = now;
  const nodes = [...now.values()].map(({ node }) => node);
  const isSame = nodes.length === parent.childNodes.length && nodes.every((node, i) => node === parent.childNodes[i]);
  if (!isSame) parent.replaceChildren(...nodes);
}

/** Sets the text of a node, if it is another one. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A label above a control; `hint` is below it and described by it. */
export function field(label, control, hint = "") {
  control.id ||= newId();
  const note = hint ? h("span", { className: "hint", id: `${control.id}-hint` }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { className: "field" }, h("label", { htmlFor: control.id }, label), control, note);
}

/** A bar that says how much of `max` there is of `value`, in the words of `text`. */
export function meter(label, value, max, text) {
  const share = max > 0 ? Math.min(1, value / max) : 0;
  const fill = h("span", { className: share > 0.92 ? "fill full" : "fill" });
  fill.style.width = `${(100 * share).toFixed(1)}%`;
  const attributes = {
    className: "meter",
    role: "meter",
    "aria-label": label,
    "aria-valuemin": "0",
    "aria-valuemax": String(max),
    "aria-valuenow": String(Math.min(value, max)),
    "aria-valuetext": text,
  };
  return h("div", attributes, fill);
}

/** An id that no element has. */
export function newId() {
  newId.count = (newId.count ?? 0) + 1;
  return `id-${newId.count}`;
}

function focusables(node) {
  const selector = "a[href], button, input, select, textarea, summary";
  return [...(node.matches(selector) ? [node] : []), ...node.querySelectorAll(selector)];
}
