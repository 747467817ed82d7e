// Package telegram is the Telegram bot of assist: private chats, groups, guest
// mentions, inline queries and business connections.
//
// It speaks the Bot API (https://core.telegram.org/bots/api, 10.3) with a small
// client of its own. What people write is kept in memory only, of chats that
// agreed only, and goes to the model only when somebody asks for it. The disk
// holds settings and consent.
//
// Owns: the Bot API's wire form, pacing, consent, the window of messages.
// Imports: assist for the tasks, api/openai for errors.
// Trust: updates are foreign; whose they are is Telegram's word. Telegram sees
// what it carries: questions and answers of the bot.
// Concurrency: Run owns the bot's goroutines; a Client is safe for concurrent use.
package telegram
