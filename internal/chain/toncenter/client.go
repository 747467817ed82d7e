//go:build !tee

package toncenter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Client is a Chain over the liteservers of a global configuration. Every
// block it returns is proven from the configuration's init block on.
type Client struct {
	pool *liteclient.ConnectionPool
	api  *ton.APIClient
	init Block
}

// Dial connects to the liteservers of a global configuration in JSON. It
// fails if there is no init block to start from.
func Dial(ctx context.Context, globalConfig []byte) (*Client, error) {
	var cfg liteclient.GlobalConfig
	if err := json.Unmarshal(globalConfig, &cfg); err != nil {
		return nil, fmt.Errorf("toncenter: global configuration: %w", err)
	}
	zero := cfg.Validator.ZeroState
	if len(cfg.Validator.InitBlock.RootHash) != 32 || len(zero.RootHash) != 32 || len(zero.FileHash) != 32 {
		return nil, errors.New("toncenter: the global configuration names no init block or zero state")
	}
	pool := liteclient.NewConnectionPool()
	if err := pool.AddConnectionsFromConfig(ctx, &cfg); err != nil {
		pool.Stop()
		return nil, fmt.Errorf("toncenter: %w", err)
	}
	api := ton.NewAPIClient(pool, ton.ProofCheckPolicySecure)
	api.SetTrustedBlockFromConfig(&cfg)
	return &Client{pool: pool, api: api, init: Block{
		Workchain: zero.Workchain, Shard: zero.Shard,
		RootHash: [32]byte(zero.RootHash), FileHash: [32]byte(zero.FileHash),
	}}, nil
}

// Close ends the connections.
func (c *Client) Close() { c.pool.Stop() }

// Init returns the zero state.
func (c *Client) Init() Block { return c.init }

func (b Block) ext() *ton.BlockIDExt {
	return &ton.BlockIDExt{Workchain: b.Workchain, Shard: b.Shard, SeqNo: b.Seqno, RootHash: b.RootHash[:], FileHash: b.FileHash[:]}
}

func fromExt(b *ton.BlockIDExt) (Block, error) {
	if b == nil || len(b.RootHash) != 32 || len(b.FileHash) != 32 {
		return Block{}, errors.New("the server names no block")
	}
	return Block{b.Workchain, b.Shard, b.SeqNo, [32]byte(b.RootHash), [32]byte(b.FileHash)}, nil
}

// Head implements Chain.
func (c *Client) Head(ctx context.Context) (Block, error) {
	b, err := c.api.GetMasterchainInfo(ctx)
	if err != nil {
		return Block{}, chainError(err)
	}
	return fromExt(b)
}

// StateHash implements Chain.
func (c *Client) StateHash(ctx context.Context, b Block) (h [32]byte, err error) {
	var res tl.Serializable
	if err := c.api.Client().QueryLiteserver(ctx, ton.GetBlockHeader{ID: b.ext()}, &res); err != nil {
		return h, err
	}
	switch r := res.(type) {
	case ton.BlockHeader:
		proof, err := cell.FromBOC(r.HeaderProof)
		if err != nil {
			return h, err
		}
		block, err := ton.CheckBlockProof(proof, b.RootHash[:])
		if err != nil {
			return h, err
		}
		state, err := block.StateUpdate.PeekRef(1)
		if err != nil {
			return h, err
		}
		return [32]byte(state.Hash(0)), nil
	case ton.LSError:
		return h, chainError(r)
	}
	return h, fmt.Errorf("unexpected answer %T", res)
}

// chainError says not found where the server does.
func chainError(err error) error {
	var ls ton.LSError
	switch {
	case errors.As(err, &ls) && ls.Code == 651, errors.Is(err, ton.ErrBlockNotFound), errors.Is(err, ton.ErrNoTransactionsWereFound):
		return fmt.Errorf("%w: %v", ErrNotFound, err)
	case errors.As(err, &ls) && ls.Code == 0:
		return fmt.Errorf("%w: %s", ErrNotAccepted, ls.Text)
	}
	return err
}

// Lookup implements Chain.
func (c *Client) Lookup(ctx context.Context, workchain int32, shard int64, seqno uint32, lt uint64, at time.Time) (Block, error) {
	q := ton.LookupBlock{ID: &ton.BlockInfoShort{Workchain: workchain, Shard: shard, Seqno: int32(seqno)}}
	switch {
	case seqno != 0:
		q.Mode = 1
	case lt != 0:
		q.Mode, q.LT = 2, lt
	default:
		q.Mode, q.UTime = 4, uint32(at.Unix())
	}
	var res tl.Serializable
	if err := c.api.Client().QueryLiteserver(ctx, q, &res); err != nil {
		return Block{}, err
	}
	switch r := res.(type) {
	case ton.BlockHeader:
		return fromExt(r.ID)
	case ton.LSError:
		return Block{}, chainError(r)
	}
	return Block{}, fmt.Errorf("unexpected answer %T", res)
}

// Shards implements Chain.
func (c *Client) Shards(ctx context.Context, b Block) ([]Block, error) {
	list, err := c.api.GetBlockShardsInfo(ctx, b.ext())
	if err != nil {
		return nil, chainError(err)
	}
	out := make([]Block, 0, len(list))
	for _, s := range list {
		b, err := fromExt(s)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// BlockTransactions implements Chain.
func (c *Client) BlockTransactions(ctx context.Context, b Block, after *TransactionID, count int) ([]TransactionID, bool, error) {
	var from []*ton.TransactionID3
	if after != nil {
		from = append(from, &ton.TransactionID3{Account: after.Account[:], LT: after.LT})
	}
	list, more, err := c.api.GetBlockTransactionsV2(ctx, b.ext(), uint32(count), from...)
	if err != nil {
		return nil, false, chainError(err)
	}
	out := make([]TransactionID, 0, len(list))
	for _, t := range list {
		if len(t.Account) != 32 || len(t.Hash) != 32 {
			return nil, false, errors.New("the server names a transaction without account or hash")
		}
		out = append(out, TransactionID{[32]byte(t.Account), t.LT, [32]byte(t.Hash)})
	}
	return out, more, nil
}

func tonAddress(a cocoon.Address) *address.Address {
	return address.NewAddress(0, byte(a.Workchain), a.Hash[:])
}

func nano(c tlb.Coins) coins.Nano { return coins.Nano(c.Nano().Uint64()) }

// Account implements Chain.
func (c *Client) Account(ctx context.Context, b Block, a cocoon.Address) (Account, error) {
	acc, err := c.api.WaitForBlock(b.Seqno).GetAccount(ctx, b.ext(), tonAddress(a))
	if err != nil {
		return Account{}, chainError(err)
	}
	out := Account{State: "uninitialized"}
	if acc.State == nil {
		return out, nil
	}
	out.Balance = nano(acc.State.Balance)
	if acc.LastTxLT != 0 && len(acc.LastTxHash) == 32 {
		out.Last = TransactionID{LT: acc.LastTxLT, Hash: [32]byte(acc.LastTxHash)}
	}
	switch acc.State.Status {
	case tlb.AccountStatusActive:
		out.State, out.Code, out.Data = "active", boc(acc.Code), boc(acc.Data)
	case tlb.AccountStatusFrozen:
		out.State, out.Frozen = "frozen", acc.State.StateHash
	}
	return out, nil
}

func boc(c *cell.Cell) []byte {
	if c == nil {
		return nil
	}
	return c.ToBOC()
}

// Transactions implements Chain.
func (c *Client) Transactions(ctx context.Context, a cocoon.Address, from TransactionID, count int) ([]Transaction, error) {
	var out []Transaction
	for from.LT != 0 && len(out) < count {
		page, err := c.page(ctx, a, from, min(count-len(out), 16))
		if err != nil {
			return nil, err
		}
		for _, root := range page {
			if root.HashKey() != from.Hash {
				return nil, errors.New("the server's transactions do not belong together")
			}
			tx, prev, err := readTransaction(root)
			if err != nil {
				return nil, err
			}
			out = append(out, tx)
			from = prev
		}
	}
	return out, nil
}

func (c *Client) page(ctx context.Context, a cocoon.Address, from TransactionID, count int) ([]*cell.Cell, error) {
	var res tl.Serializable
	if err := c.api.Client().QueryLiteserver(ctx, ton.GetTransactions{
		Limit: int32(count), AccID: &ton.AccountID{Workchain: a.Workchain, ID: a.Hash[:]}, LT: int64(from.LT), TxHash: from.Hash[:],
	}, &res); err != nil {
		return nil, err
	}
	switch r := res.(type) {
	case ton.TransactionList:
		roots, err := cell.FromBOCMultiRoot(r.Transactions)
		if err == nil && (len(roots) == 0 || len(roots) > count) {
			err = fmt.Errorf("%d transactions given, %d asked for", len(roots), count)
		}
		return roots, err
	case ton.LSError:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, r.Text)
	}
	return nil, fmt.Errorf("unexpected answer %T", res)
}

func readTransaction(root *cell.Cell) (Transaction, TransactionID, error) {
	var t tlb.Transaction
	if err := tlb.Parse(&t, root); err != nil {
		return Transaction{}, TransactionID{}, err
	}
	tx := Transaction{
		ID: TransactionID{LT: t.LT, Hash: root.HashKey()}, Time: time.Unix(int64(t.Now), 0),
		BOC: root.ToBOC(), Fee: nano(t.TotalFees.Coins),
	}
	if d, ok := t.Description.(tlb.TransactionDescriptionOrdinary); ok && d.StoragePhase != nil {
		tx.StorageFee = nano(d.StoragePhase.StorageFeesCollected)
	}
	if t.IO.In != nil {
		m, err := readMessage(t.IO.In)
		if err != nil {
			return tx, TransactionID{}, err
		}
		tx.In = &m
	}
	if t.IO.Out != nil {
		list, err := t.IO.Out.ToSlice()
		if err != nil {
			return tx, TransactionID{}, err
		}
		for i := range list {
			m, err := readMessage(&list[i])
			if err != nil {
				return tx, TransactionID{}, err
			}
			tx.Out = append(tx.Out, m)
		}
	}
	prev := TransactionID{LT: t.PrevTxLT}
	copy(prev.Hash[:], t.PrevTxHash)
	return tx, prev, nil
}

func readMessage(m *tlb.Message) (Message, error) {
	root, err := tlb.ToCell(m)
	if err != nil {
		return Message{}, err
	}
	out := Message{Hash: root.HashKey(), Source: fromTON(m.Msg.SenderAddr()), Destination: fromTON(m.Msg.DestAddr())}
	if body := m.Msg.Payload(); body != nil {
		out.Body, out.BodyHash, out.Text = body.ToBOC(), body.HashKey(), comment(body)
	}
	var init *tlb.StateInit
	switch in := m.Msg.(type) {
	case *tlb.InternalMessage:
		out.Value, out.ForwardFee, out.CreatedLT, init = nano(in.Amount), nano(in.FwdFee), in.CreatedLT, in.StateInit
	case *tlb.ExternalMessage:
		init = in.StateInit
	case *tlb.ExternalMessageOut:
		out.CreatedLT, init = in.CreatedLT, in.StateInit
	}
	if init != nil {
		c, err := tlb.ToCell(init)
		if err != nil {
			return out, err
		}
		out.StateInit = c.ToBOC()
	}
	return out, nil
}

// comment is the text of a body that is one.
func comment(body *cell.Cell) string {
	s, err := body.BeginParse()
	if err != nil || s.BitsLeft() < 32 {
		return ""
	}
	if op, err := s.LoadUInt(32); err != nil || op != 0 {
		return ""
	}
	text, err := s.LoadStringSnake()
	if err != nil {
		return ""
	}
	return text
}

func fromTON(a *address.Address) *cocoon.Address {
	if a == nil || len(a.Data()) != 32 {
		return nil
	}
	return &cocoon.Address{Workchain: a.Workchain(), Hash: [32]byte(a.Data())}
}

// RunMethod implements Chain.
func (c *Client) RunMethod(ctx context.Context, b Block, a cocoon.Address, method uint64, args []any) ([]any, int32, error) {
	params := make([]any, len(args))
	for i, v := range args {
		var err error
		if params[i], err = toLibrary(v); err != nil {
			return nil, 0, err
		}
	}
	res, err := c.api.WaitForBlock(b.Seqno).RunGetMethodByID(ctx, b.ext(), tonAddress(a), method, params...)
	var exit ton.ContractExecError
	if errors.As(err, &exit) {
		return nil, exit.Code, nil
	}
	if err != nil {
		return nil, 0, chainError(err)
	}
	out := make([]any, 0, len(res.AsTuple()))
	for _, v := range res.AsTuple() {
		v, err := fromLibrary(v)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, v)
	}
	return out, 0, nil
}

func toLibrary(v any) (any, error) {
	switch v := v.(type) {
	case Cell:
		return cell.FromBOC(v)
	case Slice:
		c, err := cell.FromBOC(v)
		if err != nil {
			return nil, err
		}
		return c.BeginParse()
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = toLibrary(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func fromLibrary(v any) (any, error) {
	switch v := v.(type) {
	case *cell.Cell:
		return Cell(v.ToBOC()), nil
	case *cell.Builder:
		return Cell(v.EndCell().ToBOC()), nil
	case *cell.Slice:
		c, err := v.ToCell()
		if err != nil {
			return nil, err
		}
		return Slice(c.ToBOC()), nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = fromLibrary(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *big.Int, nil:
		return v, nil
	}
	return nil, nil // NaN, which has no form here
}

// Config implements Chain.
func (c *Client) Config(ctx context.Context, b Block, id int32) ([]byte, error) {
	cfg, err := c.api.WaitForBlock(b.Seqno).GetBlockchainConfig(ctx, b.ext())
	if err != nil {
		return nil, chainError(err)
	}
	v, err := cfg.Root.AsDict(32).LoadValueByIntKey(big.NewInt(int64(id)))
	if err != nil {
		return nil, fmt.Errorf("configuration parameter %d: %w", id, ErrNotFound)
	}
	p, err := v.LoadRefCell()
	if err != nil {
		return nil, err
	}
	return p.ToBOC(), nil
}

// Send implements Chain.
func (c *Client) Send(ctx context.Context, boc []byte) error {
	var res tl.Serializable
	if err := c.api.Client().QueryLiteserver(ctx, ton.SendMessage{Body: boc}, &res); err != nil {
		return err
	}
	switch r := res.(type) {
	case ton.SendMessageStatus:
		return nil
	case ton.LSError:
		return chainError(r)
	}
	return fmt.Errorf("unexpected answer %T", res)
}

// rootHash is the hash of a bag of cells' only root.
func rootHash(boc []byte) ([]byte, error) {
	c, err := cell.FromBOC(boc)
	if err != nil {
		return nil, err
	}
	return c.Hash(), nil
}
