// The page: tabs, settings, and what the service says of itself.
import { call, login, setKey } from "./api.js";
import { build as compose } from "./compose.js";
import { $, h } from "./dom.js";
import { T, choose, guess, t, translate } from "./i18n.js";
import { build as proof } from "./proof.js";
import { state } from "./reader.js";
import { build as search } from "./search.js";
import { build as summarise } from "./summarise.js";
import { failure } from "./task.js";
import { applyTheme, initData, language as telegramLanguage, ready } from "./telegram.js";

const tabs = ["compose", "summarise", "search", "proof"];

// Settings are all that is stored. Web views may refuse even that.
const stored = {
  get: (k) => { try { return localStorage.getItem("cocoon-" + k); } catch { return null; } },
  set: (k, v) => { try { localStorage.setItem("cocoon-" + k, v); } catch { /* only for this visit then */ } },
};

function reader(tab) {
  $("reader").hidden = (tab !== "summarise" && tab !== "search") || !$("reader").querySelector("li");
  $("main").classList.toggle("reading", !$("reader").hidden);
}

let current = "compose";
function open(name) {
  current = name;
  for (const n of tabs) {
    const on = n === name, tab = $("tab-" + n);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(n).hidden = !on;
  }
  reader(name);
  // No element has this name: the page would open scrolled down to it.
  if (!initData) history.replaceState(null, "", "#/" + name);
}

applyTheme();
choose(stored.get("language") || guess([telegramLanguage()]));
compose($("compose"));
summarise($("summarise"));
const searchable = search($("search"));
const service = proof($("proof"));
translate(document.documentElement);

for (const [i, name] of tabs.entries()) {
  const tab = $("tab-" + name);
  tab.addEventListener("click", () => open(name));
  tab.addEventListener("keydown", (e) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    open(next);
    $("tab-" + next).focus();
  });
}
const fromAddress = () => tabs.find((n) => location.hash === "#/" + n);
addEventListener("hashchange", () => fromAddress() && open(fromAddress()));
document.addEventListener("chat", () => reader(current));
document.addEventListener("reader", () => reader(current));
$("simulated").addEventListener("click", () => $("tab-proof").click());

const language = $("language");
language.value = document.documentElement.lang;
language.addEventListener("change", () => {
  choose(language.value);
  stored.set("language", language.value);
  translate(document.documentElement);
  document.dispatchEvent(new Event("language"));
});
const mask = $("mask");
const explainMask = () => $("mask-help").classList.toggle("visually-hidden", !mask.checked);
mask.checked = stored.get("mask") === "on";
explainMask();
mask.addEventListener("change", () => {
  stored.set("mask", mask.checked ? "on" : "off");
  explainMask();
});

open(fromAddress() || "compose");

async function info() {
  try {
    const i = await call("GET", "info");
    $("simulated").hidden = !i.simulated;
    service(i);
    searchable(i);
    $("key-form")?.remove();
  } catch (e) {
    service(undefined, e);
    if (e.code === "invalid_api_key") askKey();
    else if (e.status === 401) closed(e);
  }
}

/** closed says why nothing here will work. */
function closed(e) {
  $("closed")?.remove();
  const card = failure(e);
  card.id = "closed";
  $("main").before(card);
}

/** begin asks for a session in a Mini App, as whom Telegram says it is, also
 * where a cookie is there: it may be another's. */
async function begin() {
  try {
    if (initData) await login(initData);
    await info();
  } catch (e) {
    service(undefined, e);
    closed(e);
  }
}

/** askKey is for servers that want an API key; it stays in this page only. */
function askKey() {
  if ($("key-form")) return $("key").focus();
  const key = h("input", { id: "key", type: "password", autocomplete: "off" });
  const form = h("form", { class: "card", id: "key-form" }, T("label", { for: "key" }, "key"), h("div", { class: "row" }, key, T("button", { type: "submit", class: "primary" }, "keyUse")));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    setKey(key.value.trim());
    info();
  });
  $("main").before(form);
}

await begin();
ready();
document.documentElement.dataset.ready = t("compose");
