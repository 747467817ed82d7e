// Chats, read in the browser only: Telegram's exported JSON, and pasted text.

/** A chat: {name, key, me, messages: [{id, from, fromID, ts, text, reply_to}]}. */

const plain = (t) => (typeof t === "string" ? t : Array.isArray(t) ? t.map((p) => (typeof p === "string" ? p : p?.text || "")).join("") : "");

function one(c, userID) {
  const messages = [];
  const seen = new Set();
  for (const m of c.messages) {
    if (m?.type !== "message" || !Number.isSafeInteger(m.id) || seen.has(m.id)) continue;
    seen.add(m.id);
    messages.push({
      id: m.id, from: String(m.from ?? m.actor ?? "").slice(0, 128), fromID: String(m.from_id ?? m.from ?? ""),
      ts: Number(m.date_unixtime) || Math.floor(Date.parse(m.date) / 1000) || 0,
      text: plain(m.text), reply_to: m.reply_to_message_id,
    });
  }
  const name = String(c.name || "Telegram");
  // The key names the chat in an index; a second export of it has the same.
  return { name, key: "telegram " + (Number.isSafeInteger(c.id) ? c.id : name.slice(0, 24)), me: userID ? "user" + userID : "", messages: messages.filter((m) => m.text) };
}

/** parseExport returns the chats of an exported file; errors are keys of i18n. */
export function parseExport(text) {
  let v;
  try {
    v = JSON.parse(text);
  } catch {
    throw new Error("notJSON");
  }
  const list = Array.isArray(v?.messages) ? [v] : [...(v?.chats?.list || []), ...(v?.left_chats?.list || [])];
  if (list.some((c) => /secret/.test(c?.type || ""))) throw new Error("secretChat");
  const chats = list.filter((c) => Array.isArray(c?.messages)).map((c) => one(c, v?.personal_information?.user_id)).filter((c) => c.messages.length);
  if (!chats.length) throw new Error("notExport");
  return chats;
}

/** parsePaste splits pasted text into messages: copied from Telegram, lines of
 * "Name: text", or else paragraphs. */
export function parsePaste(text) {
  const out = [];
  const push = (from, t) => t.trim() && out.push({ id: out.length + 1, from: (from || "").slice(0, 128), ts: 0, text: t.trim() });
  const copied = /^(.{1,128}?), \[[^\]]{6,40}\]:?\s*$/;
  const named = /^\s*(?:\[[^\]]{1,40}\]\s*)?([\p{L}\p{N}_][^:\n]{0,40}?):\s+(\S.*)$/u;
  const lines = text.split(/\r?\n/);
  const filled = lines.filter((l) => l.trim());
  if (lines.some((l) => copied.test(l))) {
    let from = "", body = [];
    for (const l of lines) {
      const m = copied.exec(l);
      if (m) {
        push(from, body.join("\n"));
        from = m[1];
        body = [];
      } else body.push(l);
    }
    push(from, body.join("\n"));
  } else if (filled.length > 1 && filled.filter((l) => named.test(l)).length * 2 > filled.length) {
    for (const l of filled) {
      const m = named.exec(l);
      if (m) push(m[1], m[2]);
      else if (out.length) out.at(-1).text += "\n" + l.trim();
      else push("", l);
    }
  } else {
    for (const p of text.split(/\n\s*\n/)) push("", p);
  }
  return out;
}

/** wire is a message as the API takes it. */
export const wire = (m) => ({ id: m.id, from: m.from || undefined, ts: m.ts || undefined, text: m.text, reply_to: m.reply_to });
