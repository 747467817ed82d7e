//go:build !tee

// Package toncenter is an HTTP gateway to a TON chain in the form of the
// toncenter v2 API, for wallets, explorers and scripts that speak it. It is
// written on a chain client, not on a chain, so it fronts the development
// chain, testnet or mainnet alike.
//
// Owns: the JSON forms of API v2.
// Imports: cocoon, coins; tonutils-go, whose types are in no exported signature.
// Trust: requests are foreign: bodies, counts and time are bounded. What the
// chain says is proven, except the results of get-methods, which the
// liteserver computes; nothing that moves money may rest on this gateway.
// Concurrency: a Handler serves any number of requests; a Client is safe for
// concurrent use.
package toncenter
