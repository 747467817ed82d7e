package role

import (
	"encoding/binary"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// SetMessage is what a proxy's node key signs of a set of workers: contract,
// version, hash of the set before and hash of this one.
func SetMessage(contract cocoon.Address, version uint64, previous, hash [32]byte) []byte {
	b := append(make([]byte, 0, 128), wire.LabelSet...)
	b = binary.BigEndian.AppendUint32(b, uint32(contract.Workchain))
	b = append(b, contract.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, version)
	b = append(b, previous[:]...)
	return append(b, hash[:]...)
}
