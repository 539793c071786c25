// Numbers, times and names as people read them. Pure.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** 1536 -> "1.5 kB"; of thousands, as disks and networks count. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${value} ${value === 1 ? "byte" : "bytes"}`;
  return `${value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0)} ${UNITS[unit]}`;
}

/** 12345 -> "12,345". */
export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US");
}

/** 1, "hit" -> "1 hit"; 12, "hit" -> "12 hits". */
export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** 1234567 -> "1.23 M": for where there is little room. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= limit) return `${(value / (unit === "k" ? 1e3 : limit)).toPrecision(3)} ${unit}`;
  }
  return count(value);
}

/** The share of `part` in `part + rest` -> "98.2 %"; nothing of nothing is "–". */
export function share(part, rest) {
  if (part === null || part === undefined || part + rest === 0) return "–";
  const percent = (100 * part) / (part + rest);
  // What is not all must not look like all.
  const shown = percent === 100 ? "100" : Math.min(99.9, percent).toFixed(1);
  return `${shown} %`;
}

/** Seconds as "3 s", "4 min", "2 h", "5 d". */
export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** Unix seconds as date and time of the reader's own zone. */
export function moment(unixS) {
  const date = new Date(unixS * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** Unix seconds as "4 min ago". */
export function ago(unixS, nowMs = Date.now()) {
  const seconds = nowMs / 1000 - unixS;
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/** The first digits of a digest, enough for the eye. */
export function digest(text) {
  return text.slice(0, 12);
}

/** How far two texts are the same: the number of characters, or -1 where they are equal. */
export function firstDifference(left, right) {
  if (left === right) return -1;
  const a = [...left];
  const b = [...right];
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at += 1;
  return at;
}
