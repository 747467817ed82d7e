// Package openai_test runs the official OpenAI clients, Go and JavaScript,
// against our gateway: once with the gateway alone over an engine, once through
// a whole network that `cocoon up` started, each time compared with the engine
// asked directly.
package openai_test
