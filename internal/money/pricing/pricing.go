// Package pricing turns model tokens into adjusted tokens and money. It is
// the one place where prices are computed.
//
// Owns: Multipliers, Usage, Adjust.
// Imports: coins.
package pricing

// Multipliers are the root contract's price multipliers in ten-thousandths
// (10000 = 1.0).
type Multipliers struct {
	Prompt, Cached, Completion, Reasoning uint32
}
