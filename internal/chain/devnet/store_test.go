//go:build !tee

package devnet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

func removeFile(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// copyDir copies a chain's directory, which must not be in use.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// minedChain makes a chain of some blocks without a snapshot and returns its
// directory, its log and the heads it had.
func minedChain(t testing.TB, blocks int) (dir, log string, heads []Head) {
	t.Helper()
	dir = t.TempDir()
	c, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	heads = []Head{c.Head()}
	for range blocks {
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
		heads = append(heads, c.Head())
	}
	n := c.current()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	removeFile(t, n.snapshotPath())
	return dir, filepath.Base(n.store.path(1)), heads
}

func TestTornTailIsDropped(t *testing.T) {
	dir, log, heads := minedChain(t, 3)
	whole, err := os.ReadFile(filepath.Join(dir, log))
	if err != nil {
		t.Fatal(err)
	}
	var last int // where the last record starts
	for at := int(logHeader); at < len(whole); at += recordHeader + int(binary.LittleEndian.Uint32(whole[at:])) {
		last = at
	}
	damage := map[string][]byte{
		"nothing of the last record": whole[:last],
		"part of its length":         whole[:last+3],
		"its header":                 whole[:last+recordHeader],
		"half of it":                 whole[:(last+len(whole))/2],
		"all but a byte":             whole[:len(whole)-1],
		"space without data":         append(bytes.Clone(whole[:last]), make([]byte, len(whole)-last)...),
		"its header was not written": append(append(bytes.Clone(whole[:last]), make([]byte, 8)...), whole[last+8:]...),
		"its end is garbage":         append(bytes.Clone(whole[:len(whole)-10]), "0123456789"...),
	}
	for name, b := range damage {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, dir)
			if err := os.WriteFile(filepath.Join(dir, log), b, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Open(Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got, want := c.Head(), heads[len(heads)-2]; got != want {
				t.Errorf("resumed at block %d, want %d", got.Seqno, want.Seqno)
			}
			if err := c.Mine(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDamagedLogIsRefused(t *testing.T) {
	dir, log, _ := minedChain(t, 3)
	whole, err := os.ReadFile(filepath.Join(dir, log))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"a served block's byte":   flip(int(logHeader) + 200),
		"a served block's length": flip(int(logHeader) + 1),
		"the network":             flip(len(logMagic) + 5),
		"the magic":               flip(0),
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, dir)
			path := filepath.Join(dir, log)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Open(Config{Dir: dir})
			if err == nil {
				c.Close()
				t.Fatal("the damaged log was accepted")
			}
			if !strings.Contains(err.Error(), "remove the directory") {
				t.Errorf("the error names no way out: %v", err)
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, b) {
				t.Error("the damaged log was changed")
			}
		})
	}
}

func TestDirectoryIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if other, err := Open(Config{Dir: dir}); err == nil {
		other.Close()
		t.Error("a second chain opened the same directory")
	}
}

func TestPortIsUsedAgainIfFree(t *testing.T) {
	dir := t.TempDir()
	if got := lastPort(dir); got != 0 {
		t.Errorf("a new directory remembers port %d", got)
	}
	c, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	port := c.Addr().(*net.TCPAddr).Port
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lastPort(dir); got != port {
		t.Errorf("the directory remembers port %d, want %d", got, port)
	}
	ln, err := net.Listen("tcp", c.Addr().String())
	if err != nil {
		t.Skipf("another process took the port meanwhile: %v", err)
	}
	defer ln.Close()
	if c, err = Open(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Addr().(*net.TCPAddr).Port; got == port {
		t.Errorf("port %d is used twice", got)
	}
}

const killedDir = "DEVNET_TEST_KILLED_DIR"

// TestMain lets the test binary be the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		if err := untilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func killedAccount(i int) (a cocoon.Address) {
	binary.BigEndian.PutUint64(a.Hash[:], uint64(i))
	return a
}

// untilKilled confirms one transfer after the other and says so.
func untilKilled(dir string) error {
	c, err := Open(Config{Dir: dir, SnapshotEvery: 7, KeepStates: 16, KeepBlocks: 16, KeepFor: time.Nanosecond})
	if err != nil {
		return err
	}
	go c.Run(context.Background())
	for i := 1; ; i++ {
		if err := c.Faucet(context.Background(), killedAccount(i), coins.PerCoin); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKill kills a process in the middle of its work, as often as there are
// rounds, and finds every transfer that was confirmed.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	paid := map[int]int64{} // transfers confirmed to each account
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		confirmed := 0
		for s := bufio.NewScanner(out); confirmed < 10+round && s.Scan(); {
			if _, err := fmt.Sscan(s.Text(), &confirmed); err != nil {
				t.Fatalf("round %d: %s", round, s.Text())
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if confirmed == 0 {
			t.Fatal("the process confirmed nothing")
		}

		c, err := Open(Config{Dir: dir, SelfCheck: true})
		if err != nil {
			t.Fatal(err)
		}
		_, accounts, err := c.current().topAccounts()
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= confirmed; i++ {
			paid[i]++
			acc, err := loadAccount(accounts, killedAccount(i).Hash)
			if err != nil {
				t.Fatal(err)
			}
			if want := paid[i] * int64(coins.PerCoin) * 9 / 10; !acc.State().IsValid || acc.State().Balance.Nano().Int64() < want {
				t.Errorf("round %d: confirmed transfer %d is gone", round, i)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRevertStartsANewNetwork(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true})
	ctx := testContext(t)
	a, b := killedAccount(1), killedAccount(2)
	if err := c.Faucet(ctx, a, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	before := c.GlobalConfig()
	snap, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	exists := func(a cocoon.Address) bool {
		t.Helper()
		_, accounts, err := c.current().topAccounts()
		if err != nil {
			t.Fatal(err)
		}
		acc, err := loadAccount(accounts, a.Hash)
		if err != nil {
			t.Fatal(err)
		}
		return acc.State().IsValid
	}
	zeros := map[hash]bool{c.current().zero.masterRef.root: true}
	for range 3 {
		if err := c.Faucet(ctx, b, coins.PerCoin); err != nil {
			t.Fatal(err)
		}
		if err := c.Revert(snap); err != nil {
			t.Fatal(err)
		}
		zeros[c.current().zero.masterRef.root] = true
		if !exists(a) || exists(b) {
			t.Errorf("after the revert: a exists %v, b exists %v", exists(a), exists(b))
		}
	}
	if len(zeros) != 4 {
		t.Errorf("%d different networks after three reverts", len(zeros))
	}
	if bytes.Equal(c.GlobalConfig(), before) {
		t.Error("clients are told the old network's configuration")
	}
	if onDisk, err := os.ReadFile(c.GlobalConfigPath()); err != nil || !bytes.Equal(bytes.TrimSpace(onDisk), c.GlobalConfig()) {
		t.Errorf("the configuration file is old (%v)", err)
	}
	if logs, _ := filepath.Glob(filepath.Join(c.cfg.Dir, "blocks-*")); len(logs) != 1 {
		t.Errorf("logs left: %v", logs)
	}
}
