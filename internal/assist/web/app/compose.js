// Compose: help with one's own draft, and replies to a message.
import { call, stream } from "./api.js";
import { parsePaste, wire } from "./chat.js";
import { $, h, toast } from "./dom.js";
import { T, t, options } from "./i18n.js";
import { buttons, copyButton, drafting, field, languages, mask, onSubmit, proved, work } from "./task.js";

const tones = ["formal", "professional", "friendly", "short", "supportive", "funny"];

function useDraft(text) {
  $("draft").value = text;
  $("draft").focus();
  toast(t("inDraft"));
}

/** changes shows a diff: what went and what came, named for screen readers. */
function changes(diff) {
  const tag = { insert: "ins", delete: "del" };
  return h("p", { class: "result diff", dir: "auto", "data-diff": true }, diff.map((c) => (tag[c.op] ? h(tag[c.op], {}, c.text) : c.text)));
}

/** intent says what a reply is for, in the person's language where it is one of
 * the usual words; the model may choose others. */
function intent(word) {
  const key = "intent_" + word.toLowerCase();
  return h("span", { class: "soft" }, " ", t(key) === key ? h("span", { lang: "en" }, word) : T("span", {}, key));
}

export function build(panel) {
  const own = h("input", { id: "own-tone", maxlength: "512", "aria-describedby": "own-tone-help", autocomplete: "off" });
  const ownField = field("ownTone", own, "ownToneHelp");
  ownField.hidden = true;
  const tone = options(h("select", { id: "tone" }), [["", "toneKeep"], ...tones.map((n) => [n, "tone_" + n]), ["own", "toneOwn"]]);
  tone.addEventListener("change", () => {
    ownField.hidden = tone.value !== "own";
    if (!ownField.hidden) own.focus();
  });
  const proofread = h("input", { type: "checkbox", id: "proofread", checked: true });
  const emojify = h("input", { type: "checkbox", id: "emojify" });
  const to = languages("translate-to", "translateNot");
  const draft = h("textarea", { id: "draft", rows: "5", dir: "auto", "data-p": "draftHint", "aria-describedby": "keys" });
  const out = h("div", { id: "compose-out", class: "out", "aria-live": "polite" });
  const form = h("form", { class: "card", id: "compose-form" },
    T("h2", {}, "composeTitle"), field("draft", draft), T("p", { class: "visually-hidden", id: "keys" }, "ctrlEnter"),
    h("fieldset", {}, T("legend", {}, "what"),
      h("div", { class: "row" }, h("label", { class: "chip" }, proofread, T("span", {}, "proofread")), h("label", { class: "chip" }, emojify, T("span", {}, "emojify"))),
      h("div", { class: "columns" }, field("translateTo", to), field("tone", tone)), ownField),
    buttons("improve", "improve"));
  const run = work(form, out, async (signal, show) => {
    const rq = {
      text: draft.value, proofread: proofread.checked || undefined, emojify: emojify.checked || undefined, translate_to: to.value || undefined,
      tone: (tone.value === "own" ? own.value.trim() : tone.value) || undefined, mask: mask() || undefined,
    };
    if (!rq.text.trim()) throw new Error("noDraft");
    if (!rq.proofread && !rq.emojify && !rq.translate_to && !rq.tone) throw new Error("nothingAsked");
    const a = await stream("compose", rq, drafting(show), signal);
    const same = a.result.text === rq.text;
    return h("article", { class: "card", "aria-label": t("result") }, T("h3", {}, "result"),
      same ? T("p", { class: "note" }, a.fallback ? "unimproved" : "unchanged") : null,
      a.diff && !same ? [T("h4", {}, "changes"), changes(a.diff), T("h4", {}, "newText")] : null,
      h("p", { class: "result", dir: "auto", "data-result": true }, a.result.text),
      a.entities_lost ? T("p", { class: "note" }, "entitiesLost", { n: a.entities_lost }) : null,
      h("div", { class: "row" }, copyButton(a.result.text), T("button", { type: "button", class: "quiet", onclick: () => useDraft(a.result.text) }, "useDraft")),
      proved("compose", a, same));
  });
  onSubmit(form, run);

  const received = h("textarea", { id: "received", rows: "3", dir: "auto", "data-p": "receivedHint" });
  const repliesOut = h("div", { id: "replies-out", class: "out", "aria-live": "polite" });
  const repliesForm = h("form", { class: "card", id: "replies-form" }, T("h2", {}, "repliesTitle"), field("received", received), buttons("suggest", "suggest"));
  onSubmit(repliesForm, work(repliesForm, repliesOut, async (signal) => {
    const messages = parsePaste(received.value).slice(-20).map(wire);
    if (!messages.length) throw new Error("noMessage");
    const a = await call("POST", "replies", { messages, mask: mask() || undefined }, signal);
    return h("article", { class: "card", "aria-label": t("replies") }, T("h3", {}, "replies"),
      h("ul", { class: "replies" }, a.replies.map((r) => h("li", {},
        h("button", { type: "button", class: "reply", dir: "auto", onclick: () => useDraft(r.text) }, r.text, intent(r.intent)), copyButton(r.text, "link")))),
      T("p", { class: "soft" }, "repliesHelp"), proved("replies", a));
  }));
  panel.append(h("div", { class: "pair" }, form, out), h("div", { class: "pair" }, repliesForm, repliesOut));
}
