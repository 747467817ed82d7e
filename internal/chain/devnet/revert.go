//go:build !tee

package devnet

import (
	"errors"
	"fmt"
	"os"
)

// Snapshot returns the accounts as they are now, for a later Revert. Messages
// under way are delivered first. It is for tests.
func (c *Chain) Snapshot() ([]byte, error) {
	n := c.current()
	n.build.Lock()
	for n.hasWaiting() {
		n.build.Unlock()
		if _, err := n.produce(c.now(), false); err != nil {
			return nil, err
		}
		n.build.Lock()
	}
	defer n.build.Unlock()
	g := *n.gen
	g.time, g.lt = n.head().utime, n.topRef().endLT
	var err error
	if g.accounts, err = n.shard.accounts.ToCell(); err != nil {
		return nil, fmt.Errorf("devnet: snapshot: %w", err)
	}
	return g.marshal()
}

// Revert starts a new network from a snapshot's accounts. Blocks of the old
// network are gone for good and nothing that was proven there is provable
// here: it has another zero state, clients are disconnected and need the new
// GlobalConfig. It is for tests.
func (c *Chain) Revert(snapshot []byte) error {
	g, err := parseGenesis(snapshot)
	if err != nil {
		return err
	}
	old := c.current()
	if g.globalID != old.gen.globalID {
		return errors.New("devnet: the snapshot is of another network id")
	}
	old.build.Lock()
	defer old.build.Unlock()
	if old.failed != nil {
		return old.failed
	}
	// Time and LT go on, so every revert makes a zero state of its own.
	g.time, g.lt, g.seed = old.later(c.now()), old.head().ref.endLT, old.gen.seed
	next, err := openNetwork(&c.cfg, g)
	if err != nil {
		return err
	}
	// From here on the directory is the new network's.
	if err := storeGenesis(c.cfg.Dir, g); err != nil {
		return errors.Join(err, next.close())
	}
	old.failed = errors.New("devnet: the network was reverted")
	c.mu.Lock()
	c.net = next
	c.mu.Unlock()
	select {
	case old.pool.wake <- struct{}{}: // the clock looks again which network is current
	default:
	}
	err = old.store.remove()
	if e := os.Remove(old.snapshotPath()); !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	c.server.drop()
	return errors.Join(err, c.writeGlobalConfig())
}
