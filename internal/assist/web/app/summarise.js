// Summarise: a pasted text or a part of a chat, with ways back to the messages.
import { stream } from "./api.js";
import { parsePaste, wire } from "./chat.js";
import { $, h } from "./dom.js";
import { T, t, options } from "./i18n.js";
import { loader } from "./loader.js";
import { read, refs, state } from "./reader.js";
import { buttons, drafting, field, languages, mask, onSubmit, proved, work } from "./task.js";

const most = 200; // messages of one summary
const mostUnits = 16000; // UTF-16 units of one message

export function build(panel) {
  const radio = (value, key, checked) => h("label", { class: "chip" }, h("input", { type: "radio", name: "source", value, id: "source-" + value, checked }), T("span", {}, key));
  const paste = h("textarea", { id: "paste", rows: "7", dir: "auto", "data-p": "pasteHint" });
  const pasteField = field("pasteText", paste);
  const range = options(h("select", { id: "range" }), [["last", "rangeLast"], ["mine", "rangeMine"], ["dates", "rangeDates"], ["from", "rangeFrom"]]);
  const last = h("input", { type: "number", id: "last", min: "1", max: String(most), value: "50", inputmode: "numeric" });
  const since = h("input", { type: "date", id: "since" }), until = h("input", { type: "date", id: "until" });
  const lastField = field("lastN", last), dates = h("div", { class: "columns" }, field("since", since), field("until", until));
  const fromHelp = T("p", { class: "soft" }, "rangeFromHelp");
  const count = h("p", { class: "note", role: "status", id: "range-count" });
  const chatFields = h("div", {}, loader("summary"), field("range", range), lastField, dates, fromHelp, count);
  const length = options(h("select", { id: "length" }), [["bullets", "lengthBullets"], ["short", "lengthShort"], ["line", "lengthLine"]]);
  const to = languages("summary-to", "sameLanguage");
  const out = h("div", { id: "summary-out", class: "out", "aria-live": "polite" });
  const form = h("form", { class: "card", id: "summary-form" }, T("h2", {}, "summariseTitle"),
    h("fieldset", {}, T("legend", {}, "source"), h("div", { class: "row" }, radio("paste", "sourcePaste", true), radio("chat", "sourceChat"))),
    pasteField, chatFields, h("div", { class: "columns" }, field("length", length), field("summaryTo", to)), buttons("summariseGo", "summarise-go"));
  const source = () => form.querySelector("[name=source]:checked").value;
  let fromID, known;

  /** chosen returns the messages of the range, newest last. */
  function chosen() {
    const ms = state.chat?.messages || [];
    if (range.value === "mine") {
      const mine = state.chat?.me;
      return mine ? ms.slice(ms.findLastIndex((m) => m.fromID === mine) + 1) : [];
    }
    if (range.value === "dates") {
      const a = since.value ? Date.parse(since.value + "T00:00") / 1000 : 0, b = until.value ? Date.parse(until.value + "T00:00") / 1000 + 86400 : Infinity;
      return ms.filter((m) => m.ts >= a && m.ts < b);
    }
    if (range.value === "from") return fromID === undefined ? [] : ms.slice(ms.findIndex((m) => m.id === fromID));
    const n = Math.trunc(Number(last.value));
    return n > 0 ? ms.slice(-Math.min(most, n)) : [];
  }

  function show() {
    const chat = source() === "chat";
    pasteField.hidden = chat;
    chatFields.hidden = !chat;
    lastField.hidden = range.value !== "last";
    dates.hidden = range.value !== "dates";
    fromHelp.hidden = range.value !== "from";
    range.closest(".field").hidden = count.hidden = !state.chat;
    if (!state.chat) lastField.hidden = dates.hidden = fromHelp.hidden = true;
    const n = chosen().length;
    count.textContent = range.value === "mine" && !state.chat?.me ? t("sayWho") : n > most ? t("tooMany", { n, most }) : t("willSend", { n });
  }

  function showChat() {
    show();
    if (!state.chat) return;
    if (known !== state.chat) { // not only who one is
      known = state.chat;
      fromID = undefined;
      form.querySelector("#source-chat").checked = true;
    }
    show();
    read(state.chat.messages, (id) => {
      fromID = id;
      range.value = "from";
      form.querySelector("#source-chat").checked = true;
      show();
      $("tab-summarise").click();
      $("summarise-go").focus();
    });
  }
  form.addEventListener("change", show);
  form.addEventListener("input", show);
  document.addEventListener("chat", showChat);
  document.addEventListener("language", show);
  show();

  onSubmit(form, work(form, out, async (signal, draw) => {
    const rq = { length: length.value, to: to.value || undefined, mask: mask() || undefined };
    let messages;
    if (source() === "chat") {
      if (!state.chat) throw new Error("noChat");
      messages = chosen().slice(-most);
      if (!messages.length) throw new Error("emptyRange");
      showChat(); // a pasted text may stand in the reader
    } else {
      if (!paste.value.trim()) throw new Error("noText");
      messages = parsePaste(paste.value);
    }
    // A text that does not come in messages is cut by the server; its parts
    // have no place to jump to.
    const whole = source() === "paste" && (messages.length > most || messages.some((m) => m.text.length > mostUnits));
    if (whole) rq.text = paste.value;
    else rq.messages = messages.map(wire);
    if (source() === "paste") read(whole ? [] : messages);
    document.dispatchEvent(new Event("reader"));
    const a = await stream("summarize", rq, drafting(draw), signal);
    const points = (key, list) => (list?.length ? [T("h4", {}, key), h("ul", { class: "points", "data-points": key }, list.map((p) => h("li", { dir: "auto" }, p.text + " ", whole ? null : refs(p.refs))))] : null);
    return h("article", { class: "card", "aria-label": t("summary") }, T("h3", {}, "summary"), T("p", { class: "soft" }, "byAI"),
      points("points", a.summary), points("decisions", a.decisions), points("questions", a.open_questions), proved("summarise", a));
  }));
  panel.append(form, out);
}
