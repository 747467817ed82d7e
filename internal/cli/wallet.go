package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// mainnetGlobalID is TON's; wallets made without a chain at hand are for it.
const mainnetGlobalID = -239

// maxSecret bounds a key read from standard input.
const maxSecret = 4096

// walletFlags say which wallet is meant.
type walletFlags struct {
	chainFlags
	key      string
	kind     string
	owner    string
	globalID int32
}

func (a *app) walletCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wallet",
		Short: "Keys and coins: create, import, show, send",
		Long: `Wallets of three kinds: v5r1 and v4r2, which every TON wallet program knows,
and node, the wallet of a Cocoon node that acts for an owner.

A key is read from and written to a file that only you may read. It is never
printed and never a flag's value.`,
		Example: "  cocoon wallet create --key wallet.key\n  cocoon wallet show --key wallet.key",
	}
	a.group(cmd)
	cmd.AddCommand(a.walletCreateCommand(), a.walletImportCommand(), a.walletShowCommand(), a.walletSendCommand())
	return cmd
}

func (a *app) walletFlags(cmd *cobra.Command, f *walletFlags) {
	a.chainFlags(cmd, &f.chainFlags)
	cmd.Flags().StringVar(&f.key, "key", "", "key file")
	cmd.Flags().StringVar(&f.kind, "kind", "v5r1", "v5r1, v4r2 or node")
	cmd.Flags().StringVar(&f.owner, "owner", "", "address of the owner (kind node)")
	cmd.Flags().Int32Var(&f.globalID, "global-id", mainnetGlobalID, "global id of the network, unless --ton-config tells it (kind v5r1)")
	if err := cmd.MarkFlagRequired("key"); err != nil {
		panic(err) // the flag stands two lines above
	}
}

// contract reads the flags; the key is still to be filled in.
func (f *walletFlags) contract() (wallet.Contract, error) {
	kind, err := wallet.ParseKind(f.kind)
	if err != nil {
		return wallet.Contract{}, usageError{err}
	}
	c := wallet.Contract{Kind: kind, GlobalID: f.globalID}
	if kind != wallet.Node {
		if f.owner != "" {
			return c, usageError{fmt.Errorf("--owner is for a wallet of kind node, this is %s", kind)}
		}
		return c, nil
	}
	if f.owner == "" {
		return c, usageError{errors.New("a wallet of kind node needs the address of its --owner")}
	}
	if c.Owner, err = cocoon.ParseAddress(f.owner); err != nil {
		return c, usageError{fmt.Errorf("--owner: %w", err)}
	}
	return c, nil
}

// walletInfo is what `wallet show` knows. Without a chain, the part after
// PublicKey stays empty.
type walletInfo struct {
	Address          string `json:"address"`
	AddressBounce    string `json:"address_bounceable"`
	AddressTest      string `json:"address_test"`
	AddressRaw       string `json:"address_raw"`
	Kind             string `json:"kind"`
	GlobalID         int32  `json:"global_id"`
	PublicKey        string `json:"public_key"`
	*walletChainInfo `json:",omitempty"`
}

type walletChainInfo struct {
	BalanceNano coins.Nano `json:"balance_nano"`
	Deployed    bool       `json:"deployed"`
	Block       uint32     `json:"block"`
	BlockTime   time.Time  `json:"block_time"`
}

// describe shows a wallet; client may be nil.
func (a *app) describe(ctx context.Context, c wallet.Contract, key wallet.Key, client *access.Client) error {
	c.PublicKey = key.Public()
	if client != nil {
		c.GlobalID = client.Network().GlobalID
	}
	addr, err := c.Address()
	if err != nil {
		return err
	}
	info := walletInfo{
		Address: addr.String(), AddressBounce: addr.Friendly(true, false), AddressTest: addr.Friendly(false, true), AddressRaw: addr.Raw(),
		Kind: c.Kind.String(), GlobalID: c.GlobalID, PublicKey: fmt.Sprintf("%x", c.PublicKey),
	}
	if client != nil {
		acc, err := client.Account(ctx, addr)
		if err != nil {
			return err
		}
		info.walletChainInfo = &walletChainInfo{BalanceNano: acc.Balance, Deployed: acc.Deployed(), Block: acc.Block.Seqno, BlockTime: acc.Block.Time.UTC()}
	}
	if a.json {
		return a.printJSON(info)
	}
	out := a.env.Stdout
	fmt.Fprintf(out, "address      %s\n", info.Address)
	fmt.Fprintf(out, "bounceable   %s\n", info.AddressBounce)
	fmt.Fprintf(out, "test network %s\n", info.AddressTest)
	fmt.Fprintf(out, "raw          %s\n", info.AddressRaw)
	fmt.Fprintf(out, "kind         %s", info.Kind)
	if c.Kind == wallet.V5R1 {
		fmt.Fprintf(out, ", for the network with global id %d only", info.GlobalID)
	}
	fmt.Fprintf(out, "\npublic key   %s\n", info.PublicKey)
	if info.walletChainInfo != nil {
		state := "not deployed yet: its first send does that"
		if info.Deployed {
			state = "deployed"
		}
		fmt.Fprintf(out, "balance      %s (%s), proven in block %d of %s\n", info.BalanceNano, state, info.Block, info.BlockTime.Format(time.RFC3339))
	}
	return nil
}

// maybeChain opens the chain if one is named.
func (a *app) maybeChain(ctx context.Context, f *chainFlags) (*access.Client, error) {
	if f.config == "" {
		return nil, nil
	}
	return a.openChain(ctx, f)
}

// shownChain opens the chain that `wallet show` means: one that is named, or,
// as for sending, that of the network in --dir, unless --global-id asks for the
// address elsewhere.
func (a *app) shownChain(cmd *cobra.Command, f *walletFlags) (*access.Client, error) {
	if _, err := os.Stat(a.devnetConfig()); f.config == "" && (err != nil || cmd.Flags().Changed("global-id")) {
		return nil, nil
	}
	client, err := a.openChain(cmd.Context(), &f.chainFlags)
	if err != nil {
		return nil, fmt.Errorf("%w; to see only the address, give the network's --global-id", err)
	}
	return client, nil
}

func (a *app) walletCreateCommand() *cobra.Command {
	var f walletFlags
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "create",
		Short: "Make a new key and its file",
		Long: `Make a new key, write its 24 words to a new file that only you can read, and
show the wallet's address. Copy the file to a safe place: whoever has it has
the coins, and without it nobody has.`,
		Example: "  cocoon wallet create --key wallet.key",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.newWallet(cmd.Context(), &f, wallet.NewMnemonicKey)
		},
	})
	a.walletFlags(cmd, &f)
	return cmd
}

// newWallet checks everything that can fail before it writes the key file.
func (a *app) newWallet(ctx context.Context, f *walletFlags, newKey func() wallet.Key) error {
	c, err := f.contract()
	if err != nil {
		return err
	}
	client, err := a.maybeChain(ctx, &f.chainFlags)
	if err != nil {
		return err
	}
	if client != nil {
		defer client.Close()
	}
	key := newKey()
	if err := wallet.WriteKeyFile(f.key, key); err != nil {
		return err
	}
	a.progress("key written to %s", f.key)
	return a.describe(ctx, c, key, client)
}

func (a *app) walletImportCommand() *cobra.Command {
	var f walletFlags
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "import",
		Short: "Write a key file from 24 words, hex or base64 on standard input",
		Long: `Read a key from standard input, 24 words of a TON mnemonic or 32 bytes in hex
or base64, and write it to a new file that only you can read.`,
		Example: "  cocoon wallet import --key wallet.key < words.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if terminal(asWriter(a.env.Stdin)) {
				a.progress("type the 24 words or the key, then Enter and Ctrl-D")
			}
			b, err := io.ReadAll(io.LimitReader(a.env.Stdin, maxSecret+1))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			if len(b) > maxSecret {
				return fmt.Errorf("standard input: %w: more than %d bytes", wallet.ErrKey, maxSecret)
			}
			key, err := wallet.ParseSecret(string(b))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			return a.newWallet(cmd.Context(), &f, func() wallet.Key { return key })
		},
	})
	a.walletFlags(cmd, &f)
	return cmd
}

func (a *app) walletShowCommand() *cobra.Command {
	var f walletFlags
	cmd := a.jsonFlag(&cobra.Command{
		Use:     "show",
		Short:   "Show a wallet's addresses and, with a chain, its balance",
		Example: "  cocoon wallet show --key wallet.key --ton-config global.config.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.contract()
			if err != nil {
				return err
			}
			key, err := wallet.ReadKeyFile(f.key)
			if err != nil {
				return err
			}
			client, err := a.shownChain(cmd, &f)
			if err != nil {
				return err
			}
			if client != nil {
				defer client.Close()
			}
			return a.describe(cmd.Context(), c, key, client)
		},
	})
	a.walletFlags(cmd, &f)
	return cmd
}

// sendInfo is what `wallet send` prints.
type sendInfo struct {
	wallet.Preview
	To          string       `json:"to"`
	Bounce      bool         `json:"bounce"`
	Sent        *wallet.Sent `json:"sent,omitempty"`
	Transaction string       `json:"transaction,omitempty"` // hex
}

func (a *app) walletSendCommand() *cobra.Command {
	var f walletFlags
	var to, amount, comment string
	var yes bool
	var wait time.Duration
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "send",
		Short: "Send coins",
		Long: `Send coins. Amount, fee and target are shown first, from a trial run on proven
data; nothing is sent without --yes. The command ends when the chain has proven
the send. If it is interrupted, the message stays in a file beside the key and
is brought to its end before anything else is sent, so nothing is paid twice.

An address that begins with E bounces: the coins come back if no contract takes
them. One that begins with U, and the raw form, do not.`,
		Example: "  cocoon wallet send --key wallet.key --ton-config global.config.json --to UQ… --amount 1.5 --yes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			return a.walletSend(ctx, &f, to, amount, comment, yes)
		},
	})
	a.walletFlags(cmd, &f)
	cmd.Flags().StringVar(&to, "to", "", "address to send to")
	cmd.Flags().StringVar(&amount, "amount", "", "coins, as 1.5, or 1500000000nano")
	cmd.Flags().StringVar(&comment, "comment", "", "text to go with it, readable by everybody")
	cmd.Flags().BoolVar(&yes, "yes", false, "send; without it only show what would be sent")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how long to wait for the proof")
	for _, name := range []string{"to", "amount"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags stand above
		}
	}
	return cmd
}

func (a *app) walletSend(ctx context.Context, f *walletFlags, to, amount, comment string, yes bool) error {
	target, err := cocoon.ParseAddress(to)
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	value, err := coins.Parse(amount)
	if err != nil {
		return usageError{fmt.Errorf("--amount: %w", err)}
	}
	c, err := f.contract()
	if err != nil {
		return err
	}
	key, err := wallet.ReadKeyFile(f.key)
	if err != nil {
		return err
	}
	client, err := a.openChain(ctx, &f.chainFlags)
	if err != nil {
		return err
	}
	defer client.Close()
	c.GlobalID = client.Network().GlobalID
	bounce, testOnly := addressFlags(to)
	if testOnly && c.GlobalID == mainnetGlobalID {
		return fmt.Errorf("--to: %s is marked for test networks, and this is the main network", to)
	}
	w, err := wallet.Open(wallet.Config{Chain: client, Key: key, Contract: c, Dir: filepath.Dir(f.key)})
	if err != nil {
		return err
	}
	message := wallet.Message{To: target, Amount: value, Bounce: bounce, Mode: wallet.ModePayFees}
	if comment != "" {
		message.Body = wallet.Comment(comment)
	}
	info := sendInfo{To: target.Friendly(bounce, false), Bounce: bounce}
	if info.Preview, err = w.Preview(ctx, []wallet.Message{message}); err != nil {
		return err
	}
	if !a.json {
		out := a.env.Stdout
		fmt.Fprintf(out, "from    %s, which holds %s\n", info.From, info.Balance)
		fmt.Fprintf(out, "to      %s\n", info.To)
		fmt.Fprintf(out, "amount  %s\n", info.Amount)
		fmt.Fprintf(out, "fee     about %s\n", info.Fee)
	}
	if yes {
		sent, err := w.Send(ctx, []wallet.Message{message})
		if err != nil {
			return err
		}
		info.Sent, info.Transaction = &sent, fmt.Sprintf("%x", sent.TxHash)
	}
	if a.json {
		if err := a.printJSON(info); err != nil {
			return err
		}
	} else if yes {
		fmt.Fprintf(a.env.Stdout, "sent    in transaction %s, fee %s\n", info.Transaction, info.Sent.Fee)
	}
	if !yes {
		a.progress("nothing was sent; repeat the command with --yes to send")
		return quietError{errors.New("not sent: --yes is missing")}
	}
	return nil
}

// addressFlags reads the flags of a friendly address; the raw form has none.
func addressFlags(s string) (bounce, testOnly bool) {
	if strings.Contains(s, ":") || len(s) < 4 {
		return false, false
	}
	b, err := base64.URLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(s[:4]))
	if err != nil {
		return false, false
	}
	return b[0]&^0x80 == 0x11, b[0]&0x80 != 0
}
