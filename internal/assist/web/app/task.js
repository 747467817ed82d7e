// What all tasks share: a button that works, one that stops, errors in plain
// words, the line of proof under an answer.
import { Failure } from "./api.js";
import { $, copy, gram, h, toast } from "./dom.js";
import { T, t } from "./i18n.js";
import { keep, openProof } from "./proof.js";

export const mask = () => $("mask").checked;

/** failure explains an error: what happened, in the person's language, then
 * what the server said, and when to try again. */
export function failure(e) {
  const known = ["offline", "answer_incomplete", "rate_limit_exceeded", "insufficient_balance", "insufficient_quota", "peer_not_verified", "seal_unavailable", "service_unavailable", "timeout", "upstream_error", "request_too_large", "missing_required_parameter", "session_required"];
  let key = e instanceof Failure ? "err_" + (known.includes(e.code) ? e.code : e.status === 429 ? "rate_limit_exceeded" : e.status >= 500 ? "upstream_error" : "request") : "err_" + e.message;
  if (!(e instanceof Failure) && t(key) === key) {
    console.error(e);
    key = "err_page";
  }
  return h("div", { class: "card error", role: "alert" }, T("strong", {}, key),
    e instanceof Failure && e.message ? h("p", { lang: "en" }, e.message) : null,
    e.retryAfter ? T("p", {}, "retryAfter", { n: e.retryAfter }) : null);
}

/** work runs one task at a time for a form: fn(signal, show). While it runs
 * the output is busy, so that screen readers wait for its end. */
export function work(form, out, fn) {
  const go = form.querySelector("[data-go]"), stop = form.querySelector("[data-stop]");
  let running;
  stop.addEventListener("click", () => running?.abort());
  return async () => {
    if (running) return;
    const mine = (running = new AbortController());
    go.disabled = true;
    stop.hidden = false;
    out.setAttribute("aria-busy", "true");
    out.replaceChildren(T("p", { class: "working" }, "working"));
    try {
      out.replaceChildren(...[await fn(mine.signal, (...nodes) => out.replaceChildren(...nodes))].flat());
    } catch (e) {
      out.replaceChildren(mine.signal.aborted ? T("p", { class: "card", role: "status" }, "stopped") : failure(e));
    } finally {
      running = undefined;
      const focused = document.activeElement === stop;
      go.disabled = false;
      stop.hidden = true;
      out.removeAttribute("aria-busy");
      out.scrollIntoView({ block: "nearest" });
      if (focused) go.focus();
    }
  };
}

/** buttons is the row that starts and stops a task. */
export const buttons = (key, id) => h("div", { class: "row" },
  T("button", { type: "submit", class: "primary", "data-go": true, id }, key),
  T("button", { type: "button", class: "quiet", "data-stop": true, hidden: true }, "stop"));

/** onSubmit also takes Ctrl+Enter in a text area. */
export function onSubmit(form, fn) {
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    fn();
  });
  form.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      form.requestSubmit();
    }
  });
}

/** drafting shows a draft that grows. */
export function drafting(show) {
  let text = "";
  const p = h("p", { class: "result draft", dir: "auto" });
  return (delta) => {
    if (!text) show(h("div", { class: "card" }, T("p", { class: "soft" }, "drafting"), p));
    p.textContent = text += delta;
  };
}

export const copyButton = (text, look = "quiet") => T("button", { type: "button", class: look, onclick: async () => toast(t((await copy(text)) ? "copied" : "notCopied")) }, "copy");

/** badges say in two words how an answer is vouched for. */
export function badges(p) {
  return [
    p.simulated && T("span", { class: "badge warn" }, "simulated"),
    p.verdict === "tdx" || p.verdict === "sev-snp" ? T("span", { class: "badge good" }, "attested") : !p.simulated && T("span", { class: "badge" }, "unproved"),
    p.calls ? T("span", { class: "badge" + (sealed(p) === "sealedYes" ? " good" : "") }, sealed(p)) : null,
  ].filter(Boolean);
}

/** sealed is the key of how far a text was encrypted. */
export const sealed = (p) => ({ worker: "sealedYes", sealed: "sealedYes", proxy: "sealedProxy", off: "sealedProxy", mixed: "sealedMixed" })[p.sealed] || "sealedUnknown";

/** proved ends a result: notes, badges, cost, and the way to the proof. told
 * says that the result itself tells of a fallback. */
export function proved(task, a, told) {
  const id = keep(task, a);
  return h("footer", { class: "proofline" },
    a.fallback && !told ? T("p", { class: "note" }, "fallback") : null,
    (a.notes || []).map((n) => T("p", { class: "note" }, n.replace(/\d+/, "{n}"), { n: n.match(/\d+/)?.[0] })),
    h("div", { class: "row" }, badges(a), h("span", { class: "cost" }, gram(a.cost_nano)),
      T("button", { type: "button", class: "link", onclick: () => openProof(id) }, "showProof")));
}

const codes = "ar bg cs da de el en es fa fi fr he hi hu id it ja kk ko ms nl no pl pt ro ru sr sv th tr uk ur uz vi zh".split(" ");

/** languages is a select of languages, named in the person's own. */
export function languages(id, noneKey, value) {
  const s = h("select", { id });
  const fill = () => {
    const now = s.value || value || "";
    const names = new Intl.DisplayNames([document.documentElement.lang], { type: "language" });
    const list = codes.map((c) => [c, names.of(c)]).sort((a, b) => a[1].localeCompare(b[1], document.documentElement.lang));
    s.replaceChildren(h("option", { value: "" }, t(noneKey)), ...list.map(([c, n]) => h("option", { value: c }, n)));
    s.value = now;
  };
  fill();
  document.addEventListener("language", fill);
  return s;
}

/** field is a labelled control. */
export const field = (key, control, help) => h("div", { class: "field" }, T("label", { for: control.id }, key), control, help ? T("p", { class: "soft", id: control.id + "-help" }, help) : null);
