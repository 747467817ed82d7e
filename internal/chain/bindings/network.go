package bindings

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// NetworkID names a network: a chain, by its zero state and global id, and the
// root contract on it (level 1 protocol, section 1). The init block is not
// part of it.
func NetworkID(zeroRootHash, zeroFileHash [32]byte, globalID int32, root cocoon.Address) [32]byte {
	b := []byte(wire.LabelNetwork)
	b = append(b, zeroRootHash[:]...)
	b = append(b, zeroFileHash[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(globalID))
	b = binary.BigEndian.AppendUint32(b, uint32(root.Workchain))
	b = append(b, root.Hash[:]...)
	return sha256.Sum256(b)
}
