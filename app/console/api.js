// The server's API, at its own address beside this page: same origin, the key in one header.

import { currentKey } from "./session.js";
import { eventsOf } from "./sse.js";

const ROOT = new URL("../v1/", document.baseURI);
const TIMEOUT_MS = 20_000;

/** What the API refused, or why it could not be asked: `code` is the API's own, or "unreachable". */
export class ApiError extends Error {
  constructor(message, { code, status = 0, param = null, retryAfterS = 0, requestId = "" }) {
    super(message);
    this.code = code;
    this.status = status;
    this.param = param;
    this.retryAfterS = retryAfterS;
    this.requestId = requestId;
  }
}

/** The JSON that a route answers with. Throws ApiError; AbortError where `signal` says so. */
export async function call(path, { method = "GET", query = {}, json, signal } = {}) {
  const url = urlOf(path, query);
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const options = {
    method,
    headers: headers(json === undefined ? {} : { "Content-Type": "application/json" }),
    body: json === undefined ? undefined : JSON.stringify(json),
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  };
  const response = await reach(() => fetch(url, options), signal);
  const text = await reach(() => response.text(), signal);
  if (!response.ok) throw refusal(response.status, text, (name) => response.headers.get(name));
  return parsed(text, response.status);
}

/** Each event of a streamed answer as JSON. Throws ApiError for an event that is an error, too. */
export async function* stream(path, json, signal) {
  const options = {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({ ...json, stream: true, stream_options: { include_usage: true } }),
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  };
  const response = await reach(() => fetch(urlOf(path), options), signal);
  if (!response.ok) {
    throw refusal(response.status, await response.text(), (name) => response.headers.get(name));
  }
  const events = eventsOf(response.body);
  for (;;) {
    const { done, value } = await reach(() => events.next(), signal);
    if (done) throw new ApiError("The answer broke off.", { code: "unreachable" });
    if (value === "[DONE]") return;
    const event = parsed(value, response.status);
    if (event.error) throw new ApiError(event.error.message, { ...event.error, status: response.status });
    yield event;
  }
}

/**
 * PUT of a body that may be large: XMLHttpRequest, as fetch does not say how far it has come.
 * `onProgress` is given the bytes sent and all bytes.
 */
export function upload(path, { query = {}, body, type, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", urlOf(path, query));
    for (const [name, value] of Object.entries(headers(type ? { "Content-Type": type } : {}))) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("The upload was stopped.", "AbortError")));
    request.addEventListener("load", () => {
      const isGood = request.status >= 200 && request.status < 300;
      const header = (name) => request.getResponseHeader(name);
      try {
        if (!isGood) throw refusal(request.status, request.responseText, header);
        resolve(parsed(request.responseText, request.status));
      } catch (error) {
        reject(error);
      }
    });
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

function urlOf(path, query = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

function headers(more) {
  const key = currentKey();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function reach(action, signal) {
  try {
    return await action();
  } catch (error) {
    if (signal?.aborted || error instanceof ApiError) throw error;
    throw unreachable(error?.name === "TimeoutError");
  }
}

function unreachable(isLate = false) {
  const message = isLate ? "The server did not answer in time." : "The server cannot be reached.";
  return new ApiError(message, { code: "unreachable" });
}

function parsed(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("The answer is not JSON: something else answers here.", { code: "unreadable", status });
  }
}

function refusal(status, text, header) {
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch {
    // A proxy in front may answer in its own words.
  }
  return new ApiError(told.message ?? `The server answered with status ${status}.`, {
    code: told.code ?? `http_${status}`,
    status,
    param: told.param ?? null,
    retryAfterS: Number(header("retry-after")) || 0,
    requestId: header("x-request-id") ?? "",
  });
}
