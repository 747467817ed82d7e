// Proof: what vouches for each answer of this page, in plain words.
import { call } from "./api.js";
import { $, gram, h, save } from "./dom.js";
import { T, t, time } from "./i18n.js";
import { badges, failure, sealed } from "./task.js";

const most = 50;
const answers = []; // newest first; gone with the page
let list, detail, chosen, serial = 0;

/** keep remembers what vouches for an answer, never the answer; its id. */
export function keep(task, a) {
  const { verdict, simulated, sealed, image, model, usage, cost_nano, calls, receipts, prompt, proxy, proxy_verdict, proxy_image } = a;
  answers.unshift({ id: ++serial, task, at: Date.now(), p: { verdict, simulated, sealed, image, model, usage, cost_nano, calls, receipts: receipts || [], prompt, proxy, proxy_verdict, proxy_image } });
  answers.length = Math.min(answers.length, most);
  chosen = serial;
  draw();
  return serial;
}

export function openProof(id) {
  chosen = id;
  draw();
  $("tab-proof").click();
  detail.focus();
}

const fact = (key, ...value) => [T("dt", {}, key), h("dd", {}, value)];

async function receipt(id, out) {
  out.replaceChildren(T("p", { class: "working" }, "working"));
  try {
    const text = JSON.stringify(await call("GET", "receipts/" + encodeURIComponent(id)), null, 2);
    out.replaceChildren(h("div", { class: "row" }, T("button", { type: "button", class: "primary", onclick: () => save(`receipt-${id.slice(0, 8)}.json`, text + "\n") }, "receiptSave")),
      h("pre", { tabindex: "0", "aria-label": t("receipt") }, text.length > 20000 ? text.slice(0, 20000) + "\n…" : text), T("p", { class: "soft" }, "receiptVerify", { id: id.slice(0, 8) }));
  } catch (e) {
    out.replaceChildren(e.status === 404 ? T("p", { class: "note", role: "status" }, "receiptLater") : failure(e));
  }
}

function explain(a) {
  const p = a.p, out = h("div", { class: "out", "aria-live": "polite" });
  const verdict = { tdx: "verdict_hardware", "sev-snp": "verdict_hardware", simulated: "verdict_simulated", mixed: "verdict_mixed" }[p.verdict] || (p.simulated ? "verdict_simulated" : "verdict_none");
  return [
    h("h3", {}, t(a.task), " · ", time(a.at)), h("div", { class: "row" }, badges(p)),
    p.simulated ? h("div", { class: "card warn", role: "note" }, T("strong", {}, "simulated"), T("p", {}, "simulatedText")) : null,
    p.calls ? [T("h4", {}, "checked"), T("p", {}, verdict), T("p", {}, sealed(p) + "Text")] : T("p", {}, "noCalls"),
    T("h4", {}, "facts"),
    h("dl", {}, fact("cost", gram(p.cost_nano)), fact("tokens", t("tokenCounts", { i: p.usage?.prompt_tokens || 0, o: p.usage?.completion_tokens || 0 })),
      fact("calls", String(p.calls || 0)), fact("model", p.model || "–"), p.prompt ? fact("prompt", p.prompt) : null,
      fact("verdict", p.verdict || "none"), p.image ? fact("image", h("code", {}, p.image)) : null,
      p.proxy ? fact("proxy", p.proxy, p.proxy_verdict ? ` (${p.proxy_verdict})` : "") : null, p.proxy_image ? fact("proxyImage", h("code", {}, p.proxy_image)) : null),
    T("h4", {}, "receiptsTitle"),
    p.receipts.length ? [T("p", { class: "soft" }, "receiptsText"), h("ul", { class: "receipts" }, p.receipts.map((id) => h("li", {},
      h("button", { type: "button", class: "quiet", "data-receipt": id, onclick: () => receipt(id, out) }, t("receiptShow") + " ", h("code", {}, id.slice(0, 8))))))] : T("p", {}, "noReceipts"),
    out,
    T("h4", {}, "notProved"),
    h("ul", {}, ["notTrue", "notCount", "notTelegram", "notWho", p.simulated || verdict === "verdict_none" ? "notHardware" : "notBroken"].map((k) => T("li", {}, k))),
  ];
}

function draw() {
  if (!list) return;
  list.replaceChildren(answers.length ? h("ul", { class: "answers" }, answers.map((a) => h("li", {},
    h("button", { type: "button", class: "answer", "aria-pressed": String(a.id === chosen), onclick: () => { chosen = a.id; draw(); detail.focus(); } },
      h("span", {}, t(a.task), " · ", time(a.at)), h("span", { class: "soft" }, gram(a.p.cost_nano)))))) : T("p", { class: "soft" }, "noAnswers"));
  const a = answers.find((x) => x.id === chosen);
  detail.replaceChildren(...(a ? explain(a).flat(3).filter(Boolean) : []));
  detail.hidden = !a;
}

export function build(panel) {
  list = h("div", {});
  detail = h("article", { class: "card", id: "proof-detail", tabindex: "-1", "aria-live": "polite" });
  const service = h("dl", { id: "service" });
  const status = h("div", {});
  panel.append(h("div", {}, h("div", { class: "card" }, T("h2", {}, "proofTitle"), T("p", {}, "proofIntro"), list), h("div", { class: "card" }, T("h2", {}, "serviceTitle"), status, service)), detail);
  draw();
  document.addEventListener("language", draw);
  return (info, error) => {
    status.replaceChildren(error ? failure(error) : "", info?.simulated ? T("p", { class: "note" }, "simulatedText") : "");
    service.replaceChildren(...(info ? [fact("model", info.model || "–"), info.embed_model ? fact("embedModel", info.embed_model) : []].flat() : []));
  };
}
