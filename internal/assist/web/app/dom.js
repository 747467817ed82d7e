// Elements and small helpers. Text always becomes a text node, so what people
// or models wrote is never markup.

/** h makes an element: h("p", {class: "x", onclick: f}, "text", child). */
export function h(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k === "value" || k === "checked" || k === "disabled") e[k] = v;
    else e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false));
  return e;
}

export const $ = (id) => document.getElementById(id);

/** gram writes nano as people read it: exact, without trailing zeros. */
export function gram(nano) {
  const n = BigInt(nano || 0);
  const part = (n % 1000000000n).toString().padStart(9, "0").replace(/0+$/, "");
  return `${n / 1000000000n}${part ? "." + part : ""} GRAM`;
}

let hide;
/** toast says something short that also screen readers hear. */
export function toast(text) {
  const t = $("toast");
  t.textContent = text;
  t.classList.add("shown");
  clearTimeout(hide);
  hide = setTimeout(() => t.classList.remove("shown"), 2500);
}

/** save hands a file to the person. */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** copy puts text on the clipboard; old web views lack the modern way. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "visually-hidden", value: text });
    document.body.append(area);
    area.select();
    const ok = document.execCommand("copy");
    area.remove();
    return ok;
  }
}
