package access

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// ID returns the network id of level 1 for a root contract on this chain:
// SHA-256("cocoon/network/v1\0" ‖ zero state's root hash ‖ its file hash ‖
// global id ‖ root's workchain ‖ root's hash), integers int32 big-endian.
func (n NetworkInfo) ID(root cocoon.Address) [32]byte {
	b := []byte(wire.LabelNetwork)
	b = append(b, n.ZeroStateRootHash[:]...)
	b = append(b, n.ZeroStateFileHash[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(n.GlobalID))
	b = binary.BigEndian.AppendUint32(b, uint32(root.Workchain))
	b = append(b, root.Hash[:]...)
	return sha256.Sum256(b)
}
