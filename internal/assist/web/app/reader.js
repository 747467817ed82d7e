// The loaded messages, a window of them at a time, and the jump to one.
import { $, h } from "./dom.js";
import { T, t, date } from "./i18n.js";

const page = 120;
let list = [], first = 0, back, onFrom;

export const state = { chat: undefined };

/** setChat makes a chat the one the tasks are about. */
export function setChat(chat) {
  state.chat = chat;
  document.dispatchEvent(new Event("chat"));
}

/** read shows messages; from(id), if given, is offered at each. */
export function read(messages, from) {
  list = messages;
  onFrom = from;
  first = Math.max(0, list.length - page);
  draw();
}

const who = (m) => m.from || t("someone");

/** caption names a message: its writer, its time or number. */
export const caption = (m) => (m.ts ? `${who(m)}, ${date(m.ts)}` : m.from ? `${m.from} · ${m.id}` : `${m.id}`);

function draw(mark) {
  const aside = $("reader");
  const shown = list.slice(first, first + page);
  const more = (key, at) => T("button", { type: "button", class: "quiet", onclick: () => { first = at; draw(); } }, key);
  aside.replaceChildren(
    h("div", { class: "row head" }, T("h2", {}, "reader"), T("span", { class: "soft" }, "countMessages", { n: list.length }),
      back ? T("button", { type: "button", class: "link", id: "back", onclick: () => { back?.focus(); back?.scrollIntoView({ block: "center" }); } }, "backToAnswer") : null),
    first > 0 ? more("earlier", Math.max(0, first - page)) : "",
    h("ol", { class: "messages", tabindex: "0", "data-l": "reader", "aria-label": t("reader") }, shown.map((m) => h("li", { id: "m-" + m.id, tabindex: "-1", class: m.id === mark ? "marked" : null },
      h("div", { class: "meta" }, h("span", { class: "from", dir: "auto" }, who(m)), m.ts ? h("time", { datetime: new Date(m.ts * 1000).toISOString() }, date(m.ts)) : null, h("span", {}, "#" + m.id),
        onFrom ? T("button", { type: "button", class: "link small", onclick: () => onFrom(m.id) }, "fromHere") : null),
      h("p", { dir: "auto" }, m.text)))),
    first + page < list.length ? more("later", Math.min(list.length - page, first + page)) : "");
}

/** jump goes to a message and remembers the way back. */
function jump(id, origin) {
  const i = list.findIndex((m) => String(m.id) === String(id));
  if (i < 0) return;
  back = origin;
  first = Math.max(0, Math.min(i - page / 2, list.length - page));
  draw(list[i].id);
  const m = $("m-" + list[i].id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  m.focus({ preventScroll: true });
  m.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
}

/** refs are the buttons that lead from a statement to its messages. */
export function refs(ids) {
  return h("span", { class: "refs" }, (ids || []).map((id) => {
    const m = list.find((x) => String(x.id) === String(id));
    return h("button", { type: "button", class: "ref", "data-ref": id, "aria-label": t("goTo", { m: m ? caption(m) : id }), onclick: (e) => jump(id, e.currentTarget) }, m ? String(m.id) : String(id));
  }));
}
