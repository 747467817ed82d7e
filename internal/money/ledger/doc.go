// Package ledger keeps the durable state of payment channels in append-only
// files of its own.
//
// Owns: Ledger, the proxy's journal of charges; Views, what clients and
// workers hold from proxies. No other package writes balances.
// Imports: cocoon, channel, coins.
// Trust: callers are our own roles. Files may have been damaged or, with a
// key, tampered with: they are checked record by record, and refused rather
// than guessed at.
// Concurrency: Run owns the file and all writes; callers send it commands and
// wait until they are durable. Reads take a read lock. All methods are safe
// for concurrent use.
//
// A directory holds one journal per contract: a lock file and one file
// journal.<generation>. A journal file is a series of frames
//
//	magic u32 ‖ length u32 ‖ number u32 ‖ payload ‖ tag [16]byte   (little endian)
//
// where tag is HMAC-SHA256 over the file's nonce, with which the first payload
// begins, and all that stands before it in the frame. A payload is a series
// of records. The first frames of a file are a snapshot of the state, the
// others one group commit each: one write and one fsync for all commands that
// queued up during the last one. Frame n+1 is written only after frame n is
// durable. So a broken frame with a good one behind it is damage, while a
// broken last frame is what a crash left of commands nobody was told had
// succeeded, and is dropped.
//
// Every Open, and a journal that grew, writes the state into the file of the
// next generation, which takes its name only when it is complete and durable.
//
// After a failed write nothing is certain about the disk: every later command
// fails with the same error, and what was not acknowledged is judged anew by
// the next Open.
package ledger
