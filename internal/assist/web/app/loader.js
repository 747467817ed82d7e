// Loading an exported chat; Summarise and Search both have one.
import { parseExport } from "./chat.js";
import { h } from "./dom.js";
import { T, t } from "./i18n.js";
import { setChat, state } from "./reader.js";
import { failure } from "./task.js";

const maxFile = 256 << 20;
let chats = [];

/** loader makes the file field (its own words would be in the browser's
 * language), the choice of a chat and of who one is. */
export function loader(prefix) {
  const file = h("input", { type: "file", class: "visually-hidden", id: prefix + "-file", accept: ".json,application/json", "aria-describedby": prefix + "-file-help" });
  const which = h("select", { id: prefix + "-chat" });
  const me = h("select", { id: prefix + "-me" });
  const problem = h("div", { "aria-live": "assertive" });
  const label = (key, s) => h("div", { class: "field" }, T("label", { for: s.id }, key), s);
  const whichField = label("chat", which), meField = label("me", me);
  const status = h("p", { class: "note", role: "status", hidden: true });
  file.addEventListener("change", async () => {
    problem.replaceChildren();
    const f = file.files[0];
    if (!f) return;
    try {
      if (f.size > maxFile) throw new Error("fileTooLarge");
      chats = parseExport(await f.text());
      setChat(chats[0]);
    } catch (e) {
      problem.replaceChildren(failure(e));
    }
    file.value = ""; // the same file can be chosen again
  });
  which.addEventListener("change", () => setChat(chats[Number(which.value)]));
  me.addEventListener("change", () => {
    state.chat.me = me.value;
    setChat(state.chat);
  });
  const show = () => {
    const c = state.chat;
    status.hidden = whichField.hidden = meField.hidden = !c;
    if (!c) return;
    whichField.hidden = chats.length < 2;
    status.textContent = t("loaded", { name: c.name, n: c.messages.length });
    which.replaceChildren(...chats.map((x, i) => h("option", { value: String(i) }, x.name)));
    which.value = String(chats.indexOf(c));
    const people = new Map(c.messages.map((m) => [m.fromID, m.from]));
    me.replaceChildren(h("option", { value: "" }, t("meUnknown")), ...[...people].slice(0, 200).map(([id, n]) => h("option", { value: id }, n || id)));
    me.value = people.has(c.me) ? c.me : "";
  };
  document.addEventListener("chat", show);
  document.addEventListener("language", show);
  show();
  return h("div", { class: "loader" }, h("div", { class: "field" }, T("label", { for: file.id }, "file"), file, T("label", { for: file.id, class: "button" }, "fileChoose"), T("p", { class: "soft", id: prefix + "-file-help" }, "fileHelp")),
    problem, status, whichField, meField);
}
