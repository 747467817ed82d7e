// The other endpoints: the official OpenAI client's responses and embeddings,
// and the official Anthropic client, against a gateway, compared with the engine
// behind it. The Go tests start both and set the addresses.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const model = process.env.COCOON_MODEL;
const make = (baseURL) => new OpenAI({ baseURL, apiKey: "sk-unused", maxRetries: 0 });
const gateway = make(process.env.COCOON_BASE_URL);
const engine = make(process.env.COCOON_DIRECT_URL);
const anthropic = new Anthropic({ baseURL: process.env.COCOON_BASE_URL.replace(/\/v1$/, ""), apiKey: "sk-unused", maxRetries: 0 });
const prompt = "eins zwei 🌙 drei";
const messages = [{ role: "user", content: prompt }];
const direct = async (more = {}) => (await engine.chat.completions.create({ model, messages, ...more }));

test("responses, whole and streamed", async () => {
  const want = await direct();
  const r = await gateway.responses.create({ model, input: prompt });
  assert.equal(r.output_text, want.choices[0].message.content);
  assert.equal(r.usage.total_tokens, want.usage.total_tokens);
  assert.ok(r.usage.cost_nano > 0);
  const final = await gateway.responses.stream({ model, input: prompt }).finalResponse();
  assert.equal(final.output_text, want.choices[0].message.content);
  assert.equal(final.status, "completed");
});

test("responses: tools, limit, errors", async () => {
  const tools = [{ type: "function", name: "say", parameters: { type: "object" }, strict: false }];
  const r = await gateway.responses.create({ model, input: prompt, tools });
  assert.deepEqual(r.output.map((x) => [x.type, x.name]), [["function_call", "say"]]);
  const cut = await gateway.responses.create({ model, input: prompt, max_output_tokens: 1 });
  assert.equal(cut.status, "incomplete");
  assert.equal(cut.incomplete_details.reason, "max_output_tokens");
  await assert.rejects(gateway.responses.create({ model, input: prompt, previous_response_id: "r" }), (e) => e instanceof OpenAI.BadRequestError && e.param === "previous_response_id");
});

test("embeddings, which this client asks for in base64", async () => {
  const input = ["one two", "three"];
  const got = await gateway.embeddings.create({ model, input });
  const want = await engine.embeddings.create({ model, input, encoding_format: "float" });
  assert.deepEqual(got.data.map((x) => Array.from(x.embedding)), want.data.map((x) => x.embedding));
});

test("transcriptions in every format", async () => {
  const ask = async (more) => gateway.audio.transcriptions.create({ model, file: await OpenAI.toFile(Buffer.from("eins zwei"), "speech.wav"), language: "de", ...more });
  assert.equal((await ask({})).text, "eins zwei in de");
  assert.equal((await ask({})).usage.input_tokens, 9);
  assert.equal((await ask({ response_format: "text" })).trim(), "eins zwei in de");
  assert.equal((await ask({ response_format: "verbose_json", timestamp_granularities: ["segment"] })).segments.length, 4);
  assert.match(await ask({ response_format: "srt" }), /^1\n00:00:00,000 --> 00:00:01,000\neins\n\n2\n/);
  assert.match(await ask({ response_format: "vtt" }), /^WEBVTT\n\n00:00:00\.000 --> 00:00:01\.000\neins\n\n/);
  let text = "";
  for await (const event of await ask({ stream: true })) {
    if (event.type === "transcript.text.delta") text += event.delta;
    else assert.deepEqual([event.type, event.text, event.usage.output_tokens], ["transcript.text.done", "eins zwei in de", 3]);
  }
  assert.equal(text, "eins zwei in de");
  await assert.rejects(ask({ stream: true, response_format: "srt" }), (e) => e instanceof OpenAI.BadRequestError && e.param === "response_format");
});

test("a schema that the engine cannot hold is an error, not an answer", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "n", strict: true, schema: { type: "object", properties: {}, required: [], additionalProperties: false } } };
  await assert.rejects(gateway.chat.completions.create({ model, messages, response_format }), (e) => e.status === 502 && e.code === "schema_mismatch");
});

test("messages, whole and streamed", async () => {
  const want = await direct();
  const m = await anthropic.messages.create({ model, max_tokens: 100, messages });
  assert.deepEqual(m.content.map((x) => [x.type, x.text]), [["text", want.choices[0].message.content]]);
  assert.equal(m.stop_reason, "end_turn");
  assert.equal(m.usage.input_tokens + m.usage.cache_read_input_tokens, want.usage.prompt_tokens);
  assert.equal(m.usage.output_tokens, want.usage.completion_tokens);
  const s = await anthropic.messages.stream({ model, max_tokens: 100, messages }).finalMessage();
  assert.deepEqual(s.content.map((x) => x.text), [want.choices[0].message.content]);
  assert.equal(s.usage.output_tokens, want.usage.completion_tokens);
});

test("messages: tools, limit, errors", async () => {
  const tools = [{ name: "say", input_schema: { type: "object" } }];
  const m = await anthropic.messages.create({ model, max_tokens: 100, messages, tools });
  assert.equal(m.stop_reason, "tool_use");
  assert.deepEqual(m.content.map((x) => [x.type, x.name, x.input.text]), [["tool_use", "say", (await direct()).choices[0].message.content]]);
  assert.equal((await anthropic.messages.create({ model, max_tokens: 1, messages })).stop_reason, "max_tokens");
  await assert.rejects(anthropic.messages.create({ model, max_tokens: 5, messages, temperature: 9 }), (e) => e instanceof Anthropic.BadRequestError && e.error.error.type === "invalid_request_error" && e.error.error.param === "temperature");
  await assert.rejects(anthropic.messages.create({ model: "no-such", max_tokens: 5, messages }), (e) => e instanceof Anthropic.NotFoundError);
  await assert.rejects(anthropic.messages.stream({ model, max_tokens: 100, messages: [{ role: "user", content: "break after two" }] }).finalMessage(), (e) => e instanceof Anthropic.APIError || /error/i.test(e.message));
});

test("two tools at one time, whole and streamed, in all three forms", async () => {
  const named = ["say", "sing"];
  const chatTools = named.map((name) => ({ type: "function", function: { name, parameters: { type: "object" } } }));
  const want = (await direct({ tools: chatTools })).choices[0].message.tool_calls.map((c) => [c.function.name, c.function.arguments]);
  assert.deepEqual(want.map((c) => c[0]), named);
  const told = (c) => c.choices[0].message.tool_calls.map((t) => [t.function.name, t.function.arguments]);
  const ask = { model, messages, tools: chatTools, parallel_tool_calls: true };
  assert.deepEqual(told(await gateway.chat.completions.create(ask)), want);
  assert.deepEqual(told(await gateway.chat.completions.stream(ask).finalChatCompletion()), want);
  const respond = { model, input: prompt, tools: named.map((name) => ({ type: "function", name, parameters: { type: "object" }, strict: false })) };
  const items = (r) => r.output.filter((x) => x.type === "function_call").map((x) => [x.name, x.arguments]);
  assert.deepEqual(items(await gateway.responses.create(respond)), want);
  assert.deepEqual(items(await gateway.responses.stream(respond).finalResponse()), want);
  const message = { model, max_tokens: 200, messages, tools: named.map((name) => ({ name, input_schema: { type: "object" } })) };
  const uses = (m) => m.content.filter((x) => x.type === "tool_use").map((x) => [x.name, x.input]);
  const parsed = want.map(([name, args]) => [name, JSON.parse(args)]);
  assert.deepEqual(uses(await anthropic.messages.create(message)), parsed);
  assert.deepEqual(uses(await anthropic.messages.stream(message).finalMessage()), parsed);
});

test("leaving a stream of messages stops the engine", async () => {
  const stream = await anthropic.messages.create({ model, max_tokens: 100, messages: [{ role: "user", content: "stall here" }], stream: true });
  for await (const event of stream) {
    if (event.type === "content_block_delta") break; // which aborts the request
  }
});
