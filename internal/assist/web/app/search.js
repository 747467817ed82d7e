// Search: words in the whole chat, found in the browser alone, and the nearest
// in meaning, found with embeddings made on the network.
import { call } from "./api.js";
import { wire } from "./chat.js";
import { h } from "./dom.js";
import { T, t, options } from "./i18n.js";
import { loader } from "./loader.js";
import { caption, read, refs, state } from "./reader.js";
import { buttons, field, mask, onSubmit, proved, work } from "./task.js";

const most = 200; // messages of one question about meaning
const shown = 30;

// The index: for each word, which messages hold it how often.
let index;

const words = (s) => s.toLowerCase().normalize("NFKC").match(/[\p{L}\p{N}]+/gu) || [];

async function build_(messages, signal, progress) {
  const postings = new Map(), lengths = [];
  for (let i = 0; i < messages.length; i++) {
    if (i % 2000 === 0) { // the page stays alive, and can be stopped
      progress(i);
      await new Promise((r) => setTimeout(r));
      if (signal.aborted) throw new DOMException("", "AbortError");
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

const hit = (m, query, reason) => h("li", {}, h("div", { class: "meta" }, h("span", { class: "from", dir: "auto" }, caption(m)), refs([m.id])),
  h("p", { dir: "auto" }, snippet(m.text, query)), reason);

export function build(panel) {
  const out = h("div", { id: "search-out", class: "out", "aria-live": "polite" });
  const indexOut = h("div", { "aria-live": "polite" });
  const drop = T("button", { type: "button", class: "danger", id: "drop-index", hidden: true }, "dropIndex");
  const indexForm = h("form", { class: "card", id: "index-form" }, T("h2", {}, "searchTitle"), loader("search"), T("p", { class: "soft" }, "indexHelp"), buttons("indexGo", "index-go"), drop, indexOut);
  const query = h("input", { id: "query", type: "search", autocomplete: "off", "data-p": "queryHint", maxlength: "500" });
  const how = options(h("select", { id: "how" }), [["words", "byWords"], ["meaning", "byMeaning"]]);
  const howHelp = T("p", { class: "soft", id: "how-help" }, "meaningHelp");
  const form = h("form", { class: "card", id: "search-form", hidden: true }, field("query", query), field("how", how), howHelp, buttons("searchGo", "search-go"));
  const show = () => {
    form.hidden = drop.hidden = !index;
    howHelp.hidden = how.value !== "meaning";
  };
  how.addEventListener("change", show);
  const clear = () => {
    index = undefined;
    out.replaceChildren();
    indexOut.replaceChildren();
    show();
  };
  // A choice of who one is keeps the index; another chat does not.
  document.addEventListener("chat", () => index && index.messages !== state.chat?.messages && clear());
  drop.addEventListener("click", () => {
    clear();
    indexOut.replaceChildren(T("p", { class: "note" }, "dropped"));
    indexForm.querySelector("[data-go]").focus();
  });
  onSubmit(indexForm, work(indexForm, indexOut, async (signal, draw) => {
    if (!state.chat) throw new Error("noChat");
    index = await build_(state.chat.messages, signal, (n) => draw(T("p", { class: "working" }, "indexing", { n })));
    show();
    setTimeout(() => query.focus());
    return T("p", { class: "note" }, "indexed", { n: index.messages.length, w: index.keys.length });
  }));
  onSubmit(form, work(form, out, async (signal) => {
    const q = query.value.trim();
    if (!q) throw new Error("noQuery");
    read(index.messages);
    document.dispatchEvent(new Event("reader"));
    const found = rank(index, q);
    if (how.value === "words") {
      if (!found.length) return T("p", { class: "card" }, "noHits");
      return h("article", { class: "card", "aria-label": t("hits") }, T("h3", {}, "hits"), T("p", { class: "soft" }, "hitsLocal", { n: found.length }),
        h("ol", { class: "hits" }, found.slice(0, shown).map((m) => hit(m, q))));
    }
    if (mask()) throw new Error("noMask"); // embeddings are made of the text as it is
    // Words choose what is worth asking about where there is more than a
    // question takes; the newest messages fill up.
    const ask = new Set(found.slice(0, most));
    for (let i = index.messages.length - 1; i >= 0 && ask.size < most; i--) ask.add(index.messages[i]);
    const a = await call("POST", "recommend", { posts: [...ask].map(wire), interests: q, n: 8, to: document.documentElement.lang }, signal);
    const byID = new Map(index.messages.map((m) => [String(m.id), m]));
    return h("article", { class: "card", "aria-label": t("hits") }, T("h3", {}, "hits"), T("p", { class: "soft" }, "hitsMeaning", { n: ask.size, all: index.messages.length }),
      h("ol", { class: "hits" }, a.posts.map((p) => hit(byID.get(String(p.id)), q, p.reason && p.reason !== byID.get(String(p.id)).text ? h("p", { class: "soft", dir: "auto" }, p.reason) : null))), proved("search", a));
  }));
  panel.append(h("div", {}, indexForm, form), out);
  show();
}
