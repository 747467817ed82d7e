// Package chain holds the development chain, the wallets and the access to a
// chain against clients that are not ours: tongo, and @ton/ton over
// ton-lite-client.
package chain
