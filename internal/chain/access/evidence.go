package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon"
)

// This file is proofs that can be handed on: the answers of servers by which
// something was proven, for others to check without any server.

// BlockID names a masterchain block.
type BlockID struct {
	Seqno    uint32 `json:"seqno"`
	RootHash []byte `json:"root_hash"`
	FileHash []byte `json:"file_hash"`
}

func portable(b blockID) BlockID {
	return BlockID{b.seqno, bytes.Clone(b.root[:]), bytes.Clone(b.file[:])}
}

func (b BlockID) id() (blockID, error) {
	if len(b.RootHash) != 32 || len(b.FileHash) != 32 {
		return blockID{}, noted(ErrMalformed, "a block's hashes have 32 bytes")
	}
	return blockID{b.Seqno, [32]byte(b.RootHash), [32]byte(b.FileHash)}, nil
}

// Evidence shows account states in one masterchain block, and which other
// blocks are in its chain, to whoever believes a zero state and an init block.
type Evidence struct {
	Zero BlockID `json:"zero_state"`
	Init BlockID `json:"init_block"`
	Head BlockID `json:"block"`
	// Forward are the links from Init to Head: validators' signatures.
	Forward [][]byte `json:"forward"`
	// Origin are the links from Head back to the zero state; or, with First, to
	// block 1, whose header shows what is before it.
	Origin [][]byte `json:"origin"`
	First  []byte   `json:"first,omitempty"`
	// Blocks are earlier ones, Accounts the states at Head.
	Blocks   []BlockEvidence   `json:"blocks"`
	Accounts []AccountEvidence `json:"accounts"`
}

// BlockEvidence are the links from an Evidence's head back to a block.
type BlockEvidence struct {
	Block BlockID  `json:"block"`
	Links [][]byte `json:"links"`
}

// AccountEvidence is the state of an account with its proof.
type AccountEvidence struct {
	Account string `json:"account"` // raw: workchain and hash
	Answer  []byte `json:"answer"`
}

// Proven is what an Evidence shows.
type Proven struct {
	Network  NetworkInfo
	Head     Block
	Blocks   map[uint32]Block // Head too
	Accounts map[cocoon.Address]Account
}

// What an Evidence may hold.
const (
	maxEvidenceBlocks   = 16
	maxEvidenceAccounts = 8
	maxEvidenceAnswers  = 1 << 12
)

// Evidence proves accounts in the newest block, and that blocks are in its
// chain, and returns the proof.
func (c *Client) Evidence(ctx context.Context, blocks []uint32, accounts ...cocoon.Address) (*Evidence, error) {
	head, err := c.headHeader(ctx)
	if err != nil {
		return nil, err
	}
	if head.id == c.trust.init {
		return nil, noted(ErrUnknownBlock, "the chain has no block after the init block yet")
	}
	var out *Evidence
	err = c.each(ctx, func(s *server) error {
		e := &Evidence{
			Zero: portable(blockID{root: c.trust.zero.root, file: c.trust.zero.file}), Init: portable(c.trust.init), Head: portable(head.id),
			Origin: [][]byte{}, Blocks: []BlockEvidence{}, Accounts: []AccountEvidence{},
		}
		var err error
		if e.Forward, err = c.record(ctx, s, c.trust.init, head.id); err != nil {
			return err
		}
		if e.Origin, err = c.record(ctx, s, head.id, blockID{root: c.trust.zero.root, file: c.trust.zero.file}); errors.Is(err, ErrRefused) {
			err = c.recordFirst(ctx, s, head, e)
		}
		if err != nil {
			return err
		}
		for _, seqno := range blocks {
			if seqno == head.id.seqno || slices.ContainsFunc(e.Blocks, func(b BlockEvidence) bool { return b.Block.Seqno == seqno }) {
				continue
			}
			was, err := c.proveSeqno(ctx, s, head, seqno)
			if err != nil {
				return err
			}
			links, err := c.record(ctx, s, head.id, was.id)
			if err != nil {
				return err
			}
			e.Blocks = append(e.Blocks, BlockEvidence{portable(was.id), links})
		}
		for _, a := range accounts {
			answer, err := typed[ton.AccountState](s.queryWait(ctx, head.id.seqno, c.cfg.Timeout/2, ton.GetAccountState{ID: head.id.ext(), Account: accountID(a)}))
			if err != nil {
				return err
			}
			b, err := tl.Serialize(answer, true)
			if err != nil {
				return err
			}
			e.Accounts = append(e.Accounts, AccountEvidence{a.Raw(), b})
		}
		out = e
		// What others cannot check is not handed on.
		_, err = e.verify(c.trust)
		return err
	})
	return out, err
}

// recordFirst shows the origin by block 1.
func (c *Client) recordFirst(ctx context.Context, s *server, head header, e *Evidence) error {
	first, err := c.proveSeqno(ctx, s, head, 1)
	if err != nil {
		return err
	}
	if e.Origin, err = c.record(ctx, s, head.id, first.id); err != nil {
		return err
	}
	answer, err := ask[ton.BlockHeader](ctx, s, ton.GetBlockHeader{ID: first.id.ext()})
	e.First = answer.HeaderProof
	return err
}

// record returns the answers that lead from a proven block to another.
func (c *Client) record(ctx context.Context, s *server, from, to blockID) ([][]byte, error) {
	answers := [][]byte{}
	for at := from; at != to; {
		part, err := ask[ton.PartialBlockProof](ctx, s, ton.GetBlockProof{Mode: 1, KnownBlock: at.ext(), TargetBlock: to.ext()})
		if err != nil {
			return nil, err
		}
		headers, err := checkLinks(at, part.Steps)
		if err != nil {
			return nil, err
		}
		if len(headers) == 0 || len(answers) == maxEvidenceAnswers {
			return nil, noted(ErrForged, fmt.Sprintf("the chain of proofs from block %s to %s does not end", from, to))
		}
		b, err := tl.Serialize(part, true)
		if err != nil {
			return nil, err
		}
		answers, at = append(answers, b), headers[len(headers)-1].id
	}
	return answers, nil
}

// follow checks recorded answers that lead from a proven block to another.
func follow(from, to blockID, answers [][]byte) (header, error) {
	last := header{id: from}
	for _, b := range answers {
		part, err := typed[ton.PartialBlockProof](parseAnswer(b))
		if err != nil {
			return header{}, err
		}
		if len(part.Steps) == 0 || len(part.Steps) > maxLinks {
			return header{}, noted(ErrForged, "an answer without links, or with too many")
		}
		headers, err := checkLinks(last.id, part.Steps)
		if err != nil {
			return header{}, err
		}
		last = headers[len(headers)-1]
	}
	if last.id != to || len(answers) == 0 {
		return header{}, noted(ErrForged, fmt.Sprintf("the links from block %s end at %s, not at %s", from, last.id, to))
	}
	return last, nil
}

// Verify checks everything, without any server. globalConfig, TON's
// configuration, says which chain is believed; nil: the one that the evidence
// itself names, and then only the caller knows whether it is the right one.
func (e *Evidence) Verify(globalConfig []byte) (*Proven, error) {
	var t trust
	if globalConfig == nil {
		zero, err := e.Zero.id()
		if err != nil {
			return nil, err
		}
		if t.init, err = e.Init.id(); err != nil {
			return nil, err
		}
		t.zero = zeroState{zero.root, zero.file}
	} else {
		var err error
		if t, _, err = parseGlobalConfig(globalConfig); err != nil {
			return nil, err
		}
	}
	return guarded(func() (*Proven, error) { return e.verify(t) })
}

func (e *Evidence) verify(t trust) (*Proven, error) {
	zero, err := e.Zero.id()
	if err != nil {
		return nil, err
	}
	first, err := e.Init.id()
	if err != nil {
		return nil, err
	}
	headID, err := e.Head.id()
	if err != nil {
		return nil, err
	}
	want := blockID{root: t.zero.root, file: t.zero.file}
	switch {
	case zero != want:
		return nil, noted(ErrWrongNetwork, fmt.Sprintf("it begins with zero state %x…, ours is %x…", zero.root[:4], want.root[:4]))
	case first != t.init:
		return nil, noted(ErrWrongNetwork, fmt.Sprintf("it starts from init block %s, ours is %s", first, t.init))
	case len(e.Forward) > maxEvidenceAnswers || len(e.Origin) > maxEvidenceAnswers || len(e.Blocks) > maxEvidenceBlocks || len(e.Accounts) > maxEvidenceAccounts:
		return nil, noted(ErrMalformed, "it holds more than a proof needs")
	}
	head, err := follow(t.init, headID, e.Forward)
	if err != nil {
		return nil, err
	}
	if len(e.First) == 0 {
		_, err = follow(headID, zero, e.Origin)
	} else {
		err = e.verifyFirst(headID, zero)
	}
	if err != nil {
		return nil, err
	}
	p := &Proven{
		Network: NetworkInfo{GlobalID: head.globalID, ZeroStateRootHash: zero.root, ZeroStateFileHash: zero.file},
		Head:    head.block(), Blocks: map[uint32]Block{headID.seqno: head.block()}, Accounts: map[cocoon.Address]Account{},
	}
	for _, b := range e.Blocks {
		id, err := b.Block.id()
		if err != nil {
			return nil, err
		}
		h, err := follow(headID, id, b.Links)
		if err != nil {
			return nil, err
		}
		p.Blocks[id.seqno] = h.block()
	}
	for _, a := range e.Accounts {
		addr, err := cocoon.ParseAddress(a.Account)
		if err != nil {
			return nil, noted(ErrMalformed, err)
		}
		answer, err := typed[ton.AccountState](parseAnswer(a.Answer))
		if err != nil {
			return nil, err
		}
		if p.Accounts[addr], err = checkAccount(head, addr, &answer); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (e *Evidence) verifyFirst(head, zero blockID) error {
	if len(e.Origin) == 0 {
		return noted(ErrForged, "no link leads to block 1")
	}
	last, err := typed[ton.PartialBlockProof](parseAnswer(e.Origin[len(e.Origin)-1]))
	if err != nil || len(last.Steps) == 0 {
		return noted(ErrMalformed, "the links to block 1 cannot be read")
	}
	_, to, _, err := link(head, last.Steps[len(last.Steps)-1])
	if err != nil {
		return err
	}
	if to.seqno != 1 {
		return noted(ErrForged, "the links do not lead to block 1")
	}
	if _, err := follow(head, to, e.Origin); err != nil {
		return err
	}
	_, err = checkFirst(e.First, to, zero)
	return err
}

// At is a proven block by its number.
func (p *Proven) At(seqno uint32, root, file [32]byte, when time.Time) error {
	b, ok := p.Blocks[seqno]
	switch {
	case !ok:
		return noted(ErrUnknownBlock, fmt.Sprintf("block %d is not shown to be in the chain", seqno))
	case b.RootHash != root || b.FileHash != file || !b.Time.Equal(when):
		return noted(ErrFork, fmt.Sprintf("block %d of the chain is another one", seqno))
	}
	return nil
}
