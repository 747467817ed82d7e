// Package assist is AI for messaging: translation, summaries, help with
// writing, suggested replies, filters, extraction, search over one's own
// messages and recommendations.
//
// It is an ordinary client of an OpenAI endpoint. Each task has a fixed,
// versioned prompt; what people wrote travels as data inside one JSON value and
// never as instructions. Answers are held to a JSON schema, checked against the
// input, repaired once, and else replaced by something plain that says so.
//
// Owns: prompts, entities of texts, checks of answers, what a task may take.
// Imports: api/openai for errors and usage.
// Trust: messages are foreign to the model, the model's answers foreign to us.
// Concurrency: an Assistant is safe for concurrent use; it keeps nothing.
package assist
