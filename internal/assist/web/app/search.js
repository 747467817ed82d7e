// Search: words in the loaded chat, found in the browser alone; and, where the
// service keeps an encrypted index, by meaning, and answers to questions.
import { call, stream } from "./api.js";
import { wire } from "./chat.js";
import { h } from "./dom.js";
import { T, t, options } from "./i18n.js";
import { loader } from "./loader.js";
import { caption, read, refs, state } from "./reader.js";
import { buttons, drafting, field, mask, onSubmit, proved, work } from "./task.js";

const shown = 30;
const mostUnits = 16000; // UTF-16 units of one message
const mostChars = 1 << 20; // of one request

// The index of words, in memory: for each word, which messages hold it how often.
let index;

const words = (s) => s.toLowerCase().normalize("NFKC").match(/[\p{L}\p{N}]+/gu) || [];

async function indexWords(messages, signal) {
  const postings = new Map(), lengths = [];
  for (let i = 0; i < messages.length; i++) {
    if (i % 2000 === 1999) { // the page stays alive, and can be stopped
      await new Promise((r) => setTimeout(r));
      signal.throwIfAborted();
    }
    const w = words(messages[i].from + " " + messages[i].text);
    lengths.push(w.length);
    for (const x of w) {
      const p = postings.get(x);
      if (!p) postings.set(x, [i, 1]);
      else if (p.at(-2) === i) p[p.length - 1]++;
      else p.push(i, 1);
    }
  }
  return { messages, postings, lengths, mean: lengths.reduce((a, b) => a + b, 0) / lengths.length || 1, keys: [...postings.keys()] };
}

/** rank scores messages by BM25; the beginning of a word finds it too, as
 * endings vary in most languages. */
function rank(ix, query) {
  const scores = new Map();
  for (const q of new Set(words(query))) {
    const stem = q.length > 4 ? q.slice(0, Math.max(4, Math.ceil(q.length * 0.75))) : q;
    for (const k of ix.keys) {
      if (k !== q && (q.length < 3 || !k.startsWith(q)) && (q.length < 5 || !k.startsWith(stem) || k.length > q.length + 3)) continue;
      const p = ix.postings.get(k), n = p.length / 2;
      const idf = Math.log(1 + (ix.messages.length - n + 0.5) / (n + 0.5)) * (k === q ? 1 : 0.7);
      for (let i = 0; i < p.length; i += 2) {
        const f = p[i + 1];
        scores.set(p[i], (scores.get(p[i]) || 0) + (idf * f * 2.2) / (f + 1.2 * (0.25 + (0.75 * ix.lengths[p[i]]) / ix.mean)));
      }
    }
  }
  return [...scores].sort((a, b) => b[1] - a[1] || b[0] - a[0]).map(([i]) => ix.messages[i]);
}

/** snippet marks the words of a question in a message. */
function snippet(text, query) {
  const qs = words(query);
  const all = [...text.matchAll(/[\p{L}\p{N}]+/gu)];
  const hit = (w) => qs.some((q) => w === q || (q.length > 2 && w.startsWith(q)) || (q.length > 4 && w.startsWith(q.slice(0, Math.max(4, Math.ceil(q.length * 0.75))))));
  const hits = all.filter((m) => hit(m[0].toLowerCase().normalize("NFKC")));
  const from = Math.max(0, (hits[0]?.index ?? 0) - 60), to = Math.min(text.length, from + 220);
  const out = [from > 0 ? "…" : ""];
  let at = from;
  for (const m of hits) {
    if (m.index + m[0].length > to) break;
    out.push(text.slice(at, m.index), h("mark", {}, m[0]));
    at = m.index + m[0].length;
  }
  out.push(text.slice(at, to), to < text.length ? "…" : "");
  return out;
}

const hit = (m, query, text) => h("li", {}, h("div", { class: "meta" }, h("span", { class: "from", dir: "auto" }, caption(m)), refs([m.id])),
  h("p", { dir: "auto" }, snippet(text ?? m.text, query)));

/** batches cuts messages to what one request takes. */
function* batches(messages, most) {
  let part = [], size = 0;
  for (const m of messages) {
    if (part.length >= most || size > mostChars) {
      yield part;
      part = [];
      size = 0;
    }
    part.push({ ...wire(m), text: m.text.slice(0, mostUnits) });
    size += m.text.length;
  }
  if (part.length) yield part;
}

/** patient calls again when the service says that it is asked too often. */
async function patient(path, body, signal) {
  for (let tries = 0; ; tries++) {
    try {
      return await call("POST", path, body, signal);
    } catch (e) {
      if (e.status !== 429 || tries === 5) throw e;
      await new Promise((r) => setTimeout(r, 1000 * Math.min(Number(e.retryAfter) || 5, 60)));
      if (signal.aborted) throw e;
    }
  }
}

/** build makes the page and returns what to tell it of the service. */
export function build(panel) {
  const out = h("div", { id: "search-out", class: "out", "aria-live": "polite" });
  const query = h("input", { id: "query", type: "search", autocomplete: "off", "data-p": "queryHint", maxlength: "500" });
  const how = options(h("select", { id: "how" }), [["words", "byWords"], ["index", "byMeaning"], ["ask", "byAsking"]]);
  const howField = field("how", how);
  const form = h("form", { class: "card", id: "search-form" }, T("h2", {}, "searchTitle"), loader("search"), field("query", query), howField, buttons("searchGo", "search-go"));

  const indexOut = h("div", { id: "index-out", "aria-live": "polite" });
  const drop = T("button", { type: "button", class: "danger", id: "drop-index" }, "dropIndex");
  const indexForm = h("form", { class: "card", id: "index-form" }, T("h2", {}, "indexTitle"), T("p", { class: "soft" }, "indexHelp"), buttons("indexGo", "index-go"), drop, indexOut);
  let most = 0; // messages that the service's index takes at once; 0 = it has none
  const show = () => {
    howField.hidden = !most;
    indexForm.hidden = !most || !state.chat;
    if (!most) how.value = "words";
  };
  show();
  document.addEventListener("chat", () => {
    if (index && index.messages !== state.chat.messages) {
      index = undefined;
      out.replaceChildren();
      indexOut.replaceChildren();
    }
    show();
  });

  onSubmit(indexForm, work(indexForm, indexOut, async (signal, draw) => {
    const { key, messages } = state.chat;
    let done = 0, last, cost = 0, calls = 0;
    const receipts = [];
    for (const part of batches(messages, most)) {
      draw(T("p", { class: "working" }, "indexing", { n: done, all: messages.length }));
      last = await patient("index", { chat: key, messages: part, mask: mask() || undefined }, signal);
      done += part.length;
      cost += last.cost_nano;
      calls += last.calls;
      receipts.push(...last.receipts);
    }
    return [T("p", { class: "note" }, "indexed", { n: done, all: last.total }), proved("index", { ...last, cost_nano: cost, calls, receipts })];
  }));
  const forget = work(indexForm, indexOut, async (signal) => {
    const r = await call("POST", "index", { chat: state.chat.key, forget: true }, signal);
    out.replaceChildren();
    return T("p", { class: "note" }, "dropped", { n: r.deleted });
  });
  drop.addEventListener("click", forget);

  onSubmit(form, work(form, out, async (signal, draw) => {
    if (!state.chat) throw new Error("noChat");
    const q = query.value.trim();
    if (!q) throw new Error("noQuery");
    read(state.chat.messages);
    document.dispatchEvent(new Event("reader"));
    if (how.value === "words") {
      index ||= await indexWords(state.chat.messages, signal);
      const found = rank(index, q);
      if (!found.length) return T("p", { class: "card" }, "noHits");
      return h("article", { class: "card", "aria-label": t("hits") }, T("h3", {}, "hits"), T("p", { class: "soft" }, "hitsLocal", { n: found.length }),
        h("ol", { class: "hits" }, found.slice(0, shown).map((m) => hit(m, q))));
    }
    const ask = how.value === "ask", rq = { query: q, chats: [state.chat.key], mask: mask() || undefined };
    const a = ask ? await stream("ask", { ...rq, to: document.documentElement.lang }, drafting(draw), signal) : await call("POST", "search", { ...rq, n: 20 }, signal);
    const byID = new Map(state.chat.messages.map((m) => [String(m.id), m]));
    const hits = a.hits.filter((x) => byID.has(String(x.id)));
    return h("article", { class: "card", "aria-label": t("hits") },
      ask ? [T("h3", {}, "answer"), a.answer ? [T("p", { class: "soft" }, "byAI"), h("p", { class: "result", dir: "auto", "data-answer": true }, a.answer + " ", refs(a.refs.map((r) => r.id)))] : T("p", {}, "noAnswer")] : null,
      T("h3", {}, "hits"), hits.length ? h("ol", { class: "hits" }, hits.map((x) => hit(byID.get(String(x.id)), q, x.snippet))) : T("p", {}, "notIndexed"),
      proved("search", a, ask && !a.answer));
  }));
  panel.append(h("div", {}, form, indexForm), out);
  return (info) => {
    most = info.search ? Math.min(info.limits?.index_messages || 500, 500) : 0;
    show();
  };
}
