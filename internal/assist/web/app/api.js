// The assist API. Errors are Failure, with what the server said.
const base = "assist/v1/";

export class Failure extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message || "");
    this.status = status;
    this.code = error?.code || "";
    this.param = error?.param || "";
    this.retryAfter = retryAfter || "";
  }
}

let key = "", session = "";
/** login begins a session by what Telegram says of who opened the app. Its
 * cookie is out of reach here; its id says later which session is meant. */
export async function login(initData) {
  session = (await call("POST", "session", { init_data: initData })).id || "";
}

/** setKey sets the API key of servers that want one. */
export function setKey(k) {
  key = k;
}

async function send(method, path, body, accept, signal) {
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = "Bearer " + key;
  if (session) headers["X-Cocoon-Session"] = session;
  let r;
  try {
    r = await fetch(base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new Failure(0, { code: "offline" });
  }
  if (!r.ok) {
    const text = await r.text();
    let error;
    try {
      error = JSON.parse(text).error;
    } catch {
      error = { message: text.slice(0, 300) };
    }
    throw new Failure(r.status, error, r.headers.get("Retry-After"));
  }
  return r;
}

/** call asks and returns the JSON answer. */
export async function call(method, path, body, signal) {
  const r = await send(method, path, body, "application/json", signal);
  if (r.status === 204) return {};
  return r.json();
}

/** stream asks for a result whose draft is heard as it grows. */
export async function stream(path, body, onDraft, signal) {
  const r = await send("POST", path, body, "text/event-stream", signal);
  if (!(r.headers.get("Content-Type") || "").startsWith("text/event-stream")) return r.json();
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let step;
    try {
      step = await reader.read();
    } catch (e) {
      if (signal?.aborted) throw e;
      throw new Failure(0, { code: "answer_incomplete" });
    }
    if (step.done) throw new Failure(0, { code: "answer_incomplete" });
    rest += step.value.replaceAll("\r\n", "\n");
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      let event = "message", data = "";
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
      }
      if (!data) continue;
      const v = JSON.parse(data);
      if (event === "draft") onDraft(v.text);
      else if (event === "error") throw new Failure(v.status || 502, v.error || v);
      else if (event === "result") return v;
    }
  }
}
