// The official clients against a gateway that asks for API keys. The Go tests
// start it, make the keys and set the addresses.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { COCOON_BASE_URL: baseURL, COCOON_MODEL: model, KEY_FREE, KEY_GONE, KEY_ELSEWHERE, KEY_SLOW, KEY_POOR } = process.env;
const messages = [{ role: "user", content: "eins zwei" }];
const openai = (apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const anthropic = (apiKey) => new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, maxRetries: 0 });

const refused = [
  ["unknown", "ck-nobody", 401, "invalid_api_key", "AuthenticationError", "authentication_error"],
  ["disabled", KEY_GONE, 401, "invalid_api_key", "AuthenticationError", "authentication_error"],
  ["other model", KEY_ELSEWHERE, 403, "model_not_allowed", "PermissionDeniedError", "permission_error"],
  ["too often", KEY_SLOW, 429, "rate_limit_exceeded", "RateLimitError", "rate_limit_error"],
  ["no budget", KEY_POOR, 429, "insufficient_quota", "RateLimitError", "rate_limit_error"],
];

for (const [name, key, status, code, kind, type] of refused) {
  test(`OpenAI: ${name}`, async () => {
    await assert.rejects(openai(key).chat.completions.create({ model, messages, max_tokens: 9 }), (e) => e instanceof OpenAI[kind] && e.status === status && e.code === code);
    await assert.rejects(openai(key).responses.create({ model, input: "eins", max_output_tokens: 9 }), (e) => e instanceof OpenAI[kind] && e.code === code);
  });
  test(`Anthropic: ${name}`, async () => {
    await assert.rejects(anthropic(key).messages.create({ model, messages, max_tokens: 9 }), (e) => {
      assert.equal(e.error.error.type, type);
      return e instanceof Anthropic[kind] && e.status === status && e.error.error.code === code;
    });
  });
}

test("a key that may", async () => {
  const c = await openai(KEY_FREE).chat.completions.create({ model, messages, max_tokens: 9 });
  assert.ok(c.usage.cost_nano > 0);
  const m = await anthropic(KEY_FREE).messages.create({ model, messages, max_tokens: 9 });
  assert.equal(m.content[0].text, c.choices[0].message.content);
  assert.deepEqual((await openai(KEY_FREE).models.list()).data.map((x) => x.id), [model]);
});
