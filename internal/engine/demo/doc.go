//go:build !tee

// Package demo is a small real inference engine in plain Go: a transformer of
// about 1.4 million parameters that this project trained itself (tools/train),
// served over the OpenAI interface. It exists so that a network runs anywhere,
// at once and offline, with true tokens, streaming, cancellation and metering.
// It is honest about being a demonstration: it knows Cocoon, a phrase book and
// short chats, and says so when asked for anything else. It is not linked into
// measured images (build tag tee).
//
// Owns: Server, the GGUF subset reader, the tokenizer, the forward pass, the
// grammar of constrained decoding, lexical embeddings.
// Imports: api/openai, api/jsonschema.
// Trust: requests are foreign; a model file given by configuration is read with
// bounds, but is not a place for secrets.
// Concurrency: a Server is safe for concurrent use. Every forward step runs
// under one fair gate of as many seats as threads; nothing runs in between.
package demo
