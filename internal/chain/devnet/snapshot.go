//go:build !tee

package devnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// A state snapshot saves replaying the log from the start: the two states
// after a masterchain block. It is only a short cut; without it, or with a
// damaged one, the log is replayed from the zero states.

const snapshotMagic = "cocoon devnet state 1\n"

type stateSnapshot struct {
	seqno         uint32 // of the masterchain block
	master, shard *cell.Cell
}

func writeSnapshot(path string, s stateSnapshot) error {
	boc, err := cell.ToBOCWithOptionsErr([]*cell.Cell{s.master, s.shard}, cell.BOCSerializeOptions{})
	if err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), s.seqno)
	b = append(b, boc...)
	return writeFile(path, binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
}

// readSnapshot returns nil, without an error, if there is no usable snapshot.
func readSnapshot(path string) (*stateSnapshot, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := len(b) - 4
	if n < len(snapshotMagic)+4 || string(b[:len(snapshotMagic)]) != snapshotMagic ||
		crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, nil
	}
	s := &stateSnapshot{seqno: binary.LittleEndian.Uint32(b[len(snapshotMagic):])}
	roots, err := cell.FromBOCMultiRootWithOptions(b[len(snapshotMagic)+4:n], cell.BOCParseOptions{MaxCells: 1 << 26})
	if err != nil || len(roots) != 2 {
		return nil, fmt.Errorf("devnet: state snapshot %s: %d roots, %v; remove it to replay the log", path, len(roots), err)
	}
	s.master, s.shard = roots[0], roots[1]
	return s, nil
}
