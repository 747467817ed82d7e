// Package web serves the tasks of messaging over HTTP, /assist/v1, and the web
// app that uses them.
//
// Owns: the HTTP surface, limits of users, the app's files.
// Imports: assist for the tasks, api/guard and api/openai as the gateway does.
// Trust: callers are foreign until a key says who they are; what they send
// reaches no log, metric or error text.
// Concurrency: a Server is safe for concurrent use.
package web
