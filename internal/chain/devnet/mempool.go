//go:build !tee

package devnet

import (
	"errors"
	"slices"
	"sync"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

const (
	maxPool         = 4096
	maxExternalSize = 64 << 10 // the network's own limit
	maxMessageCells = 8192
)

// external is a message from outside that waits for a block.
type external struct {
	hash hash
	msg  *tvm.PreparedMessage
	dst  hash
}

// mempool holds external messages in order of arrival, each once: clients
// send theirs again with every block.
type mempool struct {
	wake chan struct{} // has an element after a message arrived

	mu    sync.Mutex
	known map[hash]bool
	queue []*external
}

func newMempool() *mempool {
	return &mempool{wake: make(chan struct{}, 1), known: map[hash]bool{}}
}

// parseExternal reads a serialised external message to a basechain account.
func parseExternal(boc []byte) (x *external, err error) {
	defer func() {
		if p := recover(); p != nil {
			x, err = nil, errors.New("message cannot be parsed")
		}
	}()
	if len(boc) > maxExternalSize {
		return nil, errors.New("message is larger than 64 KiB")
	}
	root, err := cell.FromBOCWithOptions(boc, cell.BOCParseOptions{MaxCells: maxMessageCells})
	if err != nil {
		return nil, err
	}
	p, err := tvm.PrepareMessage(root)
	if err != nil {
		return nil, err
	}
	in, ok := p.Message().Msg.(*tlb.ExternalMessage)
	if !ok {
		return nil, errors.New("message is not external")
	}
	if in.DstAddr == nil || in.DstAddr.Workchain() != basechain || len(in.DstAddr.Data()) != 32 {
		return nil, errors.New("destination is not an account of workchain 0")
	}
	return &external{cellHash(root), p, hash(in.DstAddr.Data())}, nil
}

// add queues a message; one that is queued already is no error.
func (m *mempool) add(x *external) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[x.hash] {
		return nil
	}
	if len(m.queue) >= maxPool {
		return errors.New("too many messages wait for a block; send it again later")
	}
	m.known[x.hash] = true
	m.queue = append(m.queue, x)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

func (m *mempool) list() []*external {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.queue)
}

func (m *mempool) remove(done []*external) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range done {
		delete(m.known, x.hash)
	}
	m.queue = slices.DeleteFunc(m.queue, func(x *external) bool { return !m.known[x.hash] })
}

func (m *mempool) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}
