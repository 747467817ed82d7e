package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/follow"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

func (a *app) rootContractCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "root",
		Short:   "The root contract: what a network allows and what it costs",
		Example: "  cocoon root show --root EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k --ton-config global.config.json\n  cocoon root set-prices --price 30nano --worker-fee 28nano",
	}
	a.group(cmd)
	cmd.AddCommand(a.rootShowCommand(), a.rootDeployCommand())
	for _, op := range a.rootOps() {
		cmd.AddCommand(a.rootOpCommand(op))
	}
	return cmd
}

func (a *app) rootShowCommand() *cobra.Command {
	var f chainFlags
	var address string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "show",
		Short: "Show a root contract, proven",
		Long: `Show the state of a root contract: allowed images and models, proxies, prices.
The state is proven in a block that the validators signed, starting from the
zero state and init block of the configuration; no server is believed.`,
		Example: "  cocoon root show --root EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k --ton-config global.config.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := a.rootAddress(address)
			if err != nil {
				return err
			}
			return a.rootShow(cmd.Context(), &f, root)
		},
	})
	a.chainFlags(cmd, &f)
	cmd.Flags().StringVar(&address, "root", "", "address of the root contract; without it, that of the network in --dir")
	return cmd
}

// rootInfo is what `root show` prints as JSON.
type rootInfo struct {
	Root      cocoon.Address `json:"root"`
	Owner     cocoon.Address `json:"owner"`
	NetworkID string         `json:"network_id"`
	GlobalID  int32          `json:"global_id"`
	Block     uint32         `json:"block"`
	BlockTime time.Time      `json:"block_time"`
	Version   uint32         `json:"version"`
	Params    rootParams     `json:"params"`

	ProxyImages  []string    `json:"proxy_images"`
	WorkerImages []string    `json:"worker_images"`
	ModelHashes  []string    `json:"model_hashes"`
	Proxies      []rootProxy `json:"proxies"`
	KeyManager   *keyManager `json:"key_manager,omitempty"`
}

type rootParams struct {
	StructVersion          uint8      `json:"struct_version"`
	Version                uint32     `json:"version"`
	UniqueID               uint32     `json:"unique_id"`
	IsTest                 bool       `json:"is_test"`
	PricePerTokenNano      coins.Nano `json:"price_per_token_nano"`
	WorkerFeePerTokenNano  coins.Nano `json:"worker_fee_per_token_nano"`
	PromptMultiplier       uint32     `json:"prompt_multiplier"`
	CachedMultiplier       uint32     `json:"cached_multiplier"`
	CompletionMultiplier   uint32     `json:"completion_multiplier"`
	ReasoningMultiplier    uint32     `json:"reasoning_multiplier"`
	ProxyDelayBeforeClose  uint32     `json:"proxy_delay_before_close"`
	ClientDelayBeforeClose uint32     `json:"client_delay_before_close"`
	MinProxyStakeNano      coins.Nano `json:"min_proxy_stake_nano"`
	MinClientStakeNano     coins.Nano `json:"min_client_stake_nano"`
}

type rootProxy struct {
	Seqno      uint32 `json:"seqno"`
	ForWorkers string `json:"for_workers"`
	ForClients string `json:"for_clients"`
}

type keyManager struct {
	Address   string `json:"address,omitempty"`
	PublicKey string `json:"public_key"`
	ImageHash string `json:"image_hash"`
	Keys      int    `json:"keys"`
}

func hexList[T ~[32]byte](in []T) []string {
	out := make([]string, len(in))
	for i, h := range in {
		b := [32]byte(h)
		out[i] = hex.EncodeToString(b[:])
	}
	return out
}

func (a *app) rootShow(ctx context.Context, f *chainFlags, root cocoon.Address) error {
	client, err := a.openChain(ctx, f)
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := follow.Read(ctx, client, root)
	if err != nil {
		return err
	}
	n := client.Network()
	info := newRootInfo(s)
	info.GlobalID, info.NetworkID = n.GlobalID, fmt.Sprintf("%x", n.ID(root))
	if a.json {
		return a.printJSON(info)
	}
	info.print(a.env.Stdout)
	return nil
}

func newRootInfo(s *registry.Snapshot) *rootInfo {
	p := &s.Params
	info := &rootInfo{
		Root: s.Root, Owner: s.Owner, Block: s.Seqno, BlockTime: s.Time.UTC(), Version: s.Version,
		Params: rootParams{
			StructVersion: p.StructVersion, Version: p.ParamsVersion, UniqueID: p.UniqueID, IsTest: p.IsTest,
			PricePerTokenNano: p.PricePerToken, WorkerFeePerTokenNano: p.WorkerFeePerToken,
			PromptMultiplier: p.Multipliers.Prompt, CachedMultiplier: p.Multipliers.Cached,
			CompletionMultiplier: p.Multipliers.Completion, ReasoningMultiplier: p.Multipliers.Reasoning,
			ProxyDelayBeforeClose: p.ProxyDelayBeforeClose, ClientDelayBeforeClose: p.ClientDelayBeforeClose,
			MinProxyStakeNano: p.MinProxyStake, MinClientStakeNano: p.MinClientStake,
		},
		ProxyImages: hexList(s.ProxyImages), WorkerImages: hexList(s.WorkerImages), ModelHashes: hexList(s.ModelHashes),
		Proxies: []rootProxy{},
	}
	for _, p := range s.Proxies {
		info.Proxies = append(info.Proxies, rootProxy(p))
	}
	if p.StructVersion >= 4 {
		k := &s.KeyManager
		info.KeyManager = &keyManager{Address: k.Address, PublicKey: hex.EncodeToString(k.PublicKey[:]), ImageHash: hexList([]([32]byte){k.ImageHash})[0], Keys: len(k.PublicKeys)}
	}
	return info
}

func (r *rootInfo) print(w io.Writer) {
	p := &r.Params
	test := ""
	if p.IsTest {
		test = ", marked as a test network"
	}
	fmt.Fprintf(w, "root      %s\n", r.Root.Friendly(true, false))
	fmt.Fprintf(w, "owner     %s\n", r.Owner)
	fmt.Fprintf(w, "network   %s (global id %d%s)\n", r.NetworkID, r.GlobalID, test)
	fmt.Fprintf(w, "proven    in block %d of %s\n", r.Block, r.BlockTime.Format(time.RFC3339))
	fmt.Fprintf(w, "version   %d, params %d, struct %d, unique id %d\n", r.Version, p.Version, p.StructVersion, p.UniqueID)
	fmt.Fprintf(w, "price     %d nano a token, of which %d go to the worker\n", p.PricePerTokenNano, p.WorkerFeePerTokenNano)
	fmt.Fprintf(w, "weights   prompt %s, cached %s, completion %s, reasoning %s\n", weight(p.PromptMultiplier), weight(p.CachedMultiplier), weight(p.CompletionMultiplier), weight(p.ReasoningMultiplier))
	fmt.Fprintf(w, "stakes    proxy %s, client %s\n", p.MinProxyStakeNano, p.MinClientStakeNano)
	fmt.Fprintf(w, "delays    proxy %s, client %s\n", time.Duration(p.ProxyDelayBeforeClose)*time.Second, time.Duration(p.ClientDelayBeforeClose)*time.Second)
	for _, list := range []struct {
		name  string
		items []string
	}{{"proxy image", r.ProxyImages}, {"worker image", r.WorkerImages}, {"model", r.ModelHashes}} {
		fmt.Fprintf(w, "%ss: %d\n", list.name, len(list.items))
		for _, h := range list.items {
			fmt.Fprintf(w, "  %s\n", h)
		}
	}
	fmt.Fprintf(w, "proxies: %d\n", len(r.Proxies))
	for _, x := range r.Proxies {
		fmt.Fprintf(w, "  %d: for clients %s, for workers %s\n", x.Seqno, x.ForClients, x.ForWorkers)
	}
	if k := r.KeyManager; k != nil {
		fmt.Fprintf(w, "key manager: %q, image %s, %d keys\n", k.Address, k.ImageHash, k.Keys)
	}
}

// weight prints a multiplier in units of 10000 exactly.
func weight(m uint32) string {
	return fmt.Sprintf("%d.%04d", m/10000, m%10000)
}
