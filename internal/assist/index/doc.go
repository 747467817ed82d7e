// Package index is an encrypted index of one person's own messages, for search
// by words and by meaning.
//
// On disk there is no plain text, no id of a message or chat, and no word. Each
// message is sealed with a key of its own; those keys stand in a table, and a
// deleted message's key is gone with the table that held it. In memory are the
// keys, hashes of words and vectors; texts are opened when they are shown.
//
// Owns: the files of a folder, ranking.
// Imports: assist for messages and embeddings.
// Trust: the folder's owner. Embeddings can be turned back into text, so they
// are as secret as it; they are asked for in batches of one size.
// Concurrency: an Index is safe for concurrent use; a folder is one process's.
package index
