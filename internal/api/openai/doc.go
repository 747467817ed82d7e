// Package openai is the OpenAI wire format as worker, engine and gateway share
// it: error objects, usage, server-sent events, JSON values and the few edits
// of JSON that must not disturb the rest of a document.
//
// Owns: Error and its codes, Usage, Event, Chunk, Object.
// Imports: nothing of this module.
// Trust: every byte is foreign. Decoders are bounded in size and depth, work in
// linear time and never put content into an error.
// Concurrency: values are not safe for concurrent use; functions are pure.
package openai
