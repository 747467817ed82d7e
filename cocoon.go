// Package cocoon is the vocabulary of the Cocoon network: the nouns that
// several packages exchange, with exact comments and no behaviour beyond
// parsing and printing.
//
// Owns: Address, Role, ModelName, RequestID.
// Imports: nothing of this module.
package cocoon

import (
	"encoding/hex"
	"strings"
)

// Role is the part a process plays in the network.
type Role uint8

// The roles. The numbers are used on the wire of level 1 and never change.
const (
	RoleNone Role = iota
	RoleClient
	RoleProxy
	RoleWorker
	RoleKeyManager
)

// String returns the role's lower-case name.
func (r Role) String() string {
	switch r {
	case RoleClient:
		return "client"
	case RoleProxy:
		return "proxy"
	case RoleWorker:
		return "worker"
	case RoleKeyManager:
		return "key manager"
	}
	return "none"
}

// ModelName is a model's full name, name@commit:hash. SHA-256 over the whole
// string is what the root contract lists (spec contracts 4.1).
type ModelName string

// Base returns the part before the first '@': the name callers ask for.
func (m ModelName) Base() string {
	base, _, _ := strings.Cut(string(m), "@")
	return base
}

// RequestID names one request on one hop: 32 random bytes.
type RequestID [32]byte

// String returns the id in lower-case hex.
func (id RequestID) String() string { return hex.EncodeToString(id[:]) }
