// What a Telegram Mini App is told, without Telegram's script: clients put the
// launch data into the address after "#". A page that has the script anyway is
// used through it.

const hash = new URLSearchParams(location.hash.replace(/^#\/?/, ""));
const app = window.Telegram?.WebApp;

/** initData says who opened the Mini App, signed by Telegram; "" in a plain
 * browser. This page reads the language from it; its own service gets it, for a
 * session, and nobody else. */
export const initData = app?.initData || hash.get("tgWebAppData") || "";

function params() {
  if (app?.themeParams && Object.keys(app.themeParams).length) return app.themeParams;
  try {
    return JSON.parse(hash.get("tgWebAppThemeParams") || "null");
  } catch {
    return null;
  }
}

const names = {
  bg_color: "--page", secondary_bg_color: "--card", text_color: "--ink", hint_color: "--soft",
  link_color: "--link", button_color: "--accent", button_text_color: "--on-accent", section_separator_color: "--line",
};
const color = /^#[0-9a-f]{6}$/i;

/** applyTheme takes Telegram's colours. */
export function applyTheme() {
  const p = params();
  if (!p) return;
  const root = document.documentElement;
  for (const [from, to] of Object.entries(names)) {
    if (color.test(p[from])) root.style.setProperty(to, p[from]);
  }
  if (color.test(p.bg_color)) {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(p.bg_color.slice(i, i + 2), 16));
    root.dataset.theme = r * 0.3 + g * 0.59 + b * 0.11 < 128 ? "dark" : "light";
  }
}

/** ready tells Telegram that the page can be shown. */
export function ready() {
  if (app) {
    app.ready?.();
    app.expand?.();
    app.onEvent?.("themeChanged", applyTheme);
    return;
  }
  if (!initData) return;
  for (const eventType of ["web_app_ready", "web_app_expand"]) {
    if (window.TelegramWebviewProxy) window.TelegramWebviewProxy.postEvent(eventType, "{}");
    else if (parent !== window) parent.postMessage(JSON.stringify({ eventType, eventData: {} }), "https://web.telegram.org");
  }
}

/** language of the person in Telegram, "" if not told. */
export function language() {
  try {
    return JSON.parse(new URLSearchParams(initData).get("user") || "{}").language_code || "";
  } catch {
    return "";
  }
}
