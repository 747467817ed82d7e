// The official OpenAI client for JavaScript against a gateway, compared with the
// engine behind it. The Go tests start both and set the addresses.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const model = process.env.COCOON_MODEL;
const make = (baseURL) => new OpenAI({ baseURL, apiKey: "sk-unused", maxRetries: 0 });
const gateway = make(process.env.COCOON_BASE_URL);
const engine = make(process.env.COCOON_DIRECT_URL);
const messages = [{ role: "user", content: "eins zwei 🌙 drei" }];

async function whole(client, more = {}) {
  const c = await client.chat.completions.create({ model, messages, ...more });
  return { choices: c.choices.map((x) => [x.message.content, x.finish_reason]), usage: c.usage };
}

async function streamed(client, more = {}) {
  const stream = await client.chat.completions.create({ model, messages, stream: true, ...more });
  const seen = { text: "", finish: "", usage: null, chunks: 0 };
  for await (const chunk of stream) {
    seen.chunks++;
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.finish ||= chunk.choices[0]?.finish_reason ?? "";
    seen.usage = chunk.usage ?? seen.usage;
  }
  return seen;
}

const counts = (u) => [u.prompt_tokens, u.completion_tokens, u.total_tokens];

test("the same answer, and its cost", async () => {
  const want = await whole(engine);
  const got = await whole(gateway);
  assert.deepEqual(got.choices, want.choices);
  assert.deepEqual(counts(got.usage), counts(want.usage));
  assert.ok(Number.isSafeInteger(got.usage.cost_nano) && got.usage.cost_nano > 0);
});

test("the same stream, with usage", async () => {
  const more = { stream_options: { include_usage: true } };
  const want = await streamed(engine, more);
  const got = await streamed(gateway, more);
  assert.equal(got.text, want.text);
  assert.equal(got.finish, want.finish);
  assert.equal(got.chunks, want.chunks);
  assert.deepEqual(counts(got.usage), counts(want.usage));
  assert.ok(got.usage.cost_nano > 0);
});

test("no usage unless asked", async () => {
  const got = await streamed(gateway);
  assert.equal(got.usage, null);
  assert.equal(got.text, (await whole(engine)).choices[0][0]);
});

test("the stream helper of the client", async () => {
  const runner = gateway.chat.completions.stream({ model, messages });
  assert.equal(await runner.finalContent(), (await whole(engine)).choices[0][0]);
});

test("errors are typed", async () => {
  await assert.rejects(whole(gateway, { temperature: "hot" }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature" && e.code === "invalid_type");
  await assert.rejects(whole(gateway, { model: "no-such" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
  await assert.rejects(whole(gateway, { messages: [{ role: "user", content: "refuse me" }] }), (e) => e instanceof OpenAI.BadRequestError && e.code === "context_length_exceeded");
  await assert.rejects(streamed(gateway, { messages: [{ role: "user", content: "break after two" }] }), (e) => e instanceof OpenAI.APIError);
});

test("who answered stands in the headers", async () => {
  const { response } = await gateway.chat.completions.create({ model, messages }).withResponse();
  assert.match(response.headers.get("x-request-id"), /^req_[0-9a-f]{32}$/);
  assert.ok(response.headers.get("x-cocoon-verdict"));
});

test("models", async () => {
  const ids = [];
  for await (const m of gateway.models.list()) ids.push(m.id);
  assert.deepEqual(ids, [model]);
});

test("leaving stops the engine", async () => {
  const stream = await gateway.chat.completions.create({ model, messages: [{ role: "user", content: "stall here" }], stream: true });
  for await (const chunk of stream) {
    assert.equal(chunk.choices[0].delta.content, "here");
    break; // which aborts the request
  }
});
