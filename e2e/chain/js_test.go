package chain

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/toncenter"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// TestLiteserverJavaScript lets @ton/ton and ton-lite-client (../js) take over
// a wallet of ours from its key file and spend from it at our liteserver.
func TestLiteserverJavaScript(t *testing.T) {
	w := newWorld(t)
	var global struct {
		Liteservers []struct {
			ID struct{ Key string }
		}
	}
	if err := json.Unmarshal(w.chain.GlobalConfig(), &global); err != nil {
		t.Fatal(err)
	}
	for i, kind := range []wallet.Kind{wallet.V5R1, wallet.V4R2} {
		t.Run(kind.String(), func(t *testing.T) {
			w.spend(t, kind, cocoon.Address{Hash: [32]byte{byte(77 + i)}}, "ton.test.mjs",
				"COCOON_LITESERVER="+w.chain.Addr().String(), "COCOON_LITESERVER_KEY="+global.Liteservers[0].ID.Key)
		})
	}
}

// TestToncenterJavaScript does the same with @ton/ton's TonClient at our HTTP
// gateway.
func TestToncenterJavaScript(t *testing.T) {
	w := newWorld(t)
	client, err := toncenter.Dial(t.Context(), w.chain.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server := httptest.NewServer(toncenter.New(toncenter.Config{Chain: client}))
	defer server.Close()
	w.spend(t, wallet.V5R1, cocoon.Address{Hash: [32]byte{99}}, "toncenter.test.mjs", "COCOON_TONCENTER="+server.URL+"/api/v2/jsonRPC")
}

// spend runs a script that pays 1.5 from a wallet of ours, and proves that it
// arrived.
func (w *world) spend(t *testing.T, kind wallet.Kind, to cocoon.Address, script string, env ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	if _, err := os.Stat("../js/node_modules/ton-lite-client"); err != nil {
		missing(t, "e2e/js/node_modules is missing: run `npm ci --ignore-scripts` in e2e/js")
	}
	dir := t.TempDir()
	ours := w.wallet(t, kind, dir)
	if _, err := ours.Send(t.Context(), []wallet.Message{{To: w.chain.FaucetAddress(), Amount: coins.PerCoin, Mode: wallet.ModePayFees}}); err != nil {
		t.Fatal(err)
	}
	acc, err := w.client.Account(t.Context(), ours.Address())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--test", script)
	cmd.Dir = "../js"
	cmd.Env = append(append(os.Environ(),
		"COCOON_KEY_FILE="+filepath.Join(dir, "wallet.key"),
		"COCOON_KIND="+kind.String(),
		fmt.Sprintf("COCOON_GLOBAL_ID=%d", w.chain.GlobalID()),
		"COCOON_ADDRESS="+ours.Address().Raw(),
		fmt.Sprintf("COCOON_BALANCE=%d", acc.Balance),
		"COCOON_SEQNO=1",
		"COCOON_TO="+to.Raw(),
	), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for {
		got, err := w.client.Account(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		if got.Balance == 1_500_000_000 {
			return
		}
		if _, err := w.client.Next(ctx, got.Block.Seqno); err != nil {
			t.Fatalf("%s has %s: %v", to, got.Balance, err)
		}
	}
}
