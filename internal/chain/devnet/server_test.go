//go:build !tee

package devnet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// rawPeer is a client that sends what it likes behind a true handshake.
func rawPeer(t testing.TB, c *Chain) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, ours, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := keys.SharedKey(ours, c.server.key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	secrets := make([]byte, 160)
	rand.Read(secrets)
	sum := sha256.Sum256(secrets)
	out, _ := keys.NewCipherCtr(secrets[32:64], secrets[80:96])
	in, _ := keys.NewCipherCtr(secrets[:32], secrets[64:80])
	stream, err := keys.BuildSharedCipher(shared, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	stream.XORKeyStream(secrets, secrets)
	hello := append(bytes.Clone(c.server.keyID), ours.Public().(ed25519.PublicKey)...)
	if _, err := conn.Write(append(append(hello, sum[:]...), secrets...)); err != nil {
		t.Fatal(err)
	}
	p := &peer{conn: conn, r: newReader(conn), in: in, out: out}
	if _, err := p.read(); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return p
}

func TestGarbageOnThePort(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir()})
	noise := make([]byte, 4096)
	rand.Read(noise)
	for name, b := range map[string][]byte{
		"nothing": nil, "a byte": {1}, "a web request": []byte("GET / HTTP/1.1\r\n\r\n"),
		"noise": noise, "our key, then noise": append(bytes.Clone(c.server.keyID), noise[:1000]...),
	} {
		conn, err := net.Dial("tcp", c.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
		conn.(*net.TCPConn).CloseWrite()
		if n, _ := io.Copy(io.Discard, conn); n != 0 {
			t.Errorf("%s was answered with %d bytes", name, n)
		}
		conn.Close()
	}

	query := func(data []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, queryTag)
		b = append(b, make([]byte, 32)...)
		return append(b, tlBytes(data)...)
	}
	liteQuery := func(inner []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, tl.CRC("liteServer.query data:bytes = Object"))
		return append(b, tlBytes(inner)...)
	}
	wait, err := tl.Serialize(ton.WaitMasterchainSeqno{Seqno: 1 << 30, Timeout: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string][]byte{
		"noise":                      noise[:100],
		"an empty query":             query(nil),
		"an unknown query":           query(liteQuery([]byte{1, 2, 3, 4})),
		"a prefix alone":             query(liteQuery(wait)),
		"many prefixes":              query(liteQuery(bytes.Repeat(wait, 100))),
		"not a liteserver's":         query([]byte{1, 2, 3, 4}),
		"an answer instead of query": binary.LittleEndian.AppendUint32(nil, 0x1684ac0f),
	} {
		p := rawPeer(t, c)
		if err := p.write(payload); err != nil {
			t.Fatal(err)
		}
		b, err := p.read() // an error or the end, nothing else
		if err != nil {
			continue
		}
		if !bytes.Contains(b, binary.LittleEndian.AppendUint32(nil, tl.CRC("liteServer.error code:int message:string = liteServer.Error"))) {
			t.Errorf("%s was answered with %x", name, b)
		}
	}
	// A packet that claims to be huge ends the connection unread.
	p := rawPeer(t, c)
	size := binary.LittleEndian.AppendUint32(nil, maxQuerySize+1)
	p.out.XORKeyStream(size, size)
	p.conn.Write(size)
	if _, err := p.read(); err == nil {
		t.Error("a huge packet was read")
	}

	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	if _, err := api.GetMasterchainInfo(testContext(t)); err != nil {
		t.Errorf("after the garbage: %v", err)
	}
}

// TestCostlyQueries asks for things that would take for ever.
func TestCostlyQueries(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true})
	ctx := testContext(t)
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	alice := newActor(t, c, api, "alice", 5*coins.PerCoin)
	addr := alice.deploy(probeCode(t), probeData(1))
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A tuple of two equal tuples of two equal tuples...: small as cells,
	// 2^200 as a stack.
	bomb := cell.BeginCell().MustStoreUInt(0, 8).EndCell()
	for range 200 {
		bomb = cell.BeginCell().MustStoreUInt(7, 8).MustStoreUInt(2, 16).MustStoreRef(bomb).MustStoreRef(bomb).EndCell()
	}
	stack := cell.BeginCell().MustStoreUInt(1, 24).MustStoreRef(cell.BeginCell().EndCell()).MustStoreBuilder(bomb.ToBuilder()).EndCell()
	q := ton.RunSmcMethod{Mode: 7, ID: head, Account: ton.AccountID{ID: addr.Data()}, MethodID: tlb.MethodNameHash("counter"), Params: stack.ToBOC()}
	var res tl.Serializable
	if err := api.Client().QueryLiteserver(ctx, q, &res); err != nil {
		t.Fatal(err)
	}
	if e, ok := res.(ton.LSError); !ok || !strings.Contains(e.Text, stackNodesError) {
		t.Errorf("a stack bomb was answered with %+v", res)
	}
	q.Params = bytes.Repeat([]byte{0xff}, 1000)
	if err := api.Client().QueryLiteserver(ctx, q, &res); err != nil {
		t.Fatal(err)
	}
	if _, ok := res.(ton.LSError); !ok {
		t.Errorf("parameters that are no cells were answered with %+v", res)
	}
	if err := api.Client().QueryLiteserver(ctx, ton.SendMessage{Body: bytes.Repeat([]byte{0xb5}, maxExternalSize+1)}, &res); err != nil {
		t.Fatal(err)
	}
	if e, ok := res.(ton.LSError); !ok || e.Code != 0 {
		t.Errorf("a message of noise was answered with %+v", res)
	}
}

// TestWaitingBlocksNobody has many wallets wait for blocks on one connection,
// as a pool of clients does, while others ask.
func TestWaitingBlocksNobody(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), Idle: time.Hour})
	ctx, cancel := context.WithCancel(testContext(t))
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var done atomic.Int32
	for range 300 {
		wg.Go(func() {
			api.WaitForBlock(head.SeqNo + 1000).GetTime(ctx)
			done.Add(1)
		})
	}
	for range 50 {
		if _, err := api.GetTime(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := done.Load(); n != 0 {
		t.Errorf("%d waits ended before the questions were answered", n)
	}
	cancel()
	wg.Wait()
}

func TestMempoolIsBounded(t *testing.T) {
	m := newMempool()
	for i := range maxPool + 10 {
		x := &external{hash: sha256.Sum256(big.NewInt(int64(i)).Bytes())}
		if err := m.add(x); (err != nil) != (i >= maxPool) {
			t.Fatalf("message %d: %v", i, err)
		}
		if err := m.add(x); err != nil && i < maxPool {
			t.Fatalf("message %d again: %v", i, err)
		}
	}
	list := m.list()
	m.remove(list[:100])
	if m.len() != maxPool-100 || m.list()[0].hash != list[100].hash {
		t.Errorf("%d messages after removing 100", m.len())
	}
}

// TestProofsBind shows that verification is not vacuous: a changed signature
// and a proof from another block are refused.
func TestProofsBind(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir()})
	ctx := testContext(t)
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	to := cocoon.Address{Hash: [32]byte{7}}
	if err := c.Faucet(ctx, to, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	old, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Faucet(ctx, to, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}

	key := c.current().key.id()
	part, err := api.GetBlockProof(ctx, key, head)
	if err != nil {
		t.Fatal(err)
	}
	link := part.Steps[0].(ton.BlockLinkForward)
	dest, config := mustCell(t, link.DestProof), mustCell(t, link.ConfigProof)
	if err := ton.CheckForwardBlockProof(key, head, false, config, dest, link.SignatureSet); err != nil {
		t.Fatalf("true proof: %v", err)
	}
	link.SignatureSet.(ton.SignatureSetOrdinary).Signatures[0].Signature[5] ^= 1
	if err := ton.CheckForwardBlockProof(key, head, false, config, dest, link.SignatureSet); err == nil {
		t.Error("a changed signature was accepted")
	}

	ask := func(block *ton.BlockIDExt) ton.AccountState {
		t.Helper()
		var res tl.Serializable
		if err := api.Client().QueryLiteserver(ctx, ton.GetAccountState{ID: block, Account: ton.AccountID{ID: to.Hash[:]}}, &res); err != nil {
			t.Fatal(err)
		}
		return res.(ton.AccountState)
	}
	then, now := ask(old), ask(head)
	if _, _, err := ton.CheckAccountStateProofForShard(tonAddress(to), head, now.Proof, now.ShardProof, now.Shard, false); err != nil {
		t.Fatalf("true proof: %v", err)
	}
	if _, _, err := ton.CheckAccountStateProofForShard(tonAddress(to), head, then.Proof, now.ShardProof, then.Shard, false); err == nil {
		t.Error("an older shard block was accepted")
	}
	if _, _, err := ton.CheckAccountStateProofForShard(tonAddress(to), head, then.Proof, now.ShardProof, now.Shard, false); err == nil {
		t.Error("an older account proof was accepted")
	}
}

func mustCell(t testing.TB, boc []byte) *cell.Cell {
	t.Helper()
	c, err := cell.FromBOC(boc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryMethodAnswers asks each liteserver method once, with and without
// something to find.
func TestEveryMethodAnswers(t *testing.T) {
	lib := probeCode(t)
	c, _ := start(t, Config{Dir: t.TempDir(), Libraries: [][]byte{lib.ToBOC()}})
	ctx := testContext(t)
	to := cocoon.Address{Hash: [32]byte{7}}
	if err := c.Faucet(ctx, to, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := c.current()
	shard := n.top().id()
	nobody := &ton.BlockIDExt{Workchain: -1, Shard: wholeShard, SeqNo: 1 << 31, RootHash: make([]byte, 32), FileHash: make([]byte, 32)}
	acc := ton.AccountID{ID: to.Hash[:]}
	tx := n.history(to.Hash, 1<<63, 1)[0]
	short := func(wc int32, seqno int32) *ton.BlockInfoShort {
		return &ton.BlockInfoShort{Workchain: wc, Shard: wholeShard, Seqno: seqno}
	}
	for name, q := range map[string]struct {
		query tl.Serializable
		want  tl.Serializable // its type; an LSError's code too
	}{
		"info":               {ton.GetMasterchainInf{}, ton.MasterchainInfo{}},
		"info ext":           {ton.GetMasterchainInfoExt{}, ton.MasterchainInfoExt{}},
		"time":               {ton.GetTime{}, ton.CurrentTime{}},
		"version":            {ton.GetVersion{}, ton.Version{}},
		"block":              {ton.GetBlockData{ID: shard}, ton.BlockData{}},
		"no block":           {ton.GetBlockData{ID: nobody}, ton.LSError{Code: 651}},
		"header":             {ton.GetBlockHeader{ID: head}, ton.BlockHeader{}},
		"lookup seqno":       {ton.LookupBlock{Mode: 1, ID: short(-1, 2)}, ton.BlockHeader{}},
		"lookup lt":          {ton.LookupBlock{Mode: 2, ID: short(0, 0), LT: tx.lt}, ton.BlockHeader{}},
		"lookup time":        {ton.LookupBlock{Mode: 4, ID: short(0, 0), UTime: c.now()}, ton.BlockHeader{}},
		"lookup too old":     {ton.LookupBlock{Mode: 4, ID: short(-1, 0), UTime: 1}, ton.LSError{Code: 651}},
		"lookup the future":  {ton.LookupBlock{Mode: 1, ID: short(-1, -1)}, ton.LSError{Code: 651}},
		"lookup elsewhere":   {ton.LookupBlock{Mode: 1, ID: short(5, 1)}, ton.LSError{Code: 651}},
		"state":              {ton.GetState{ID: head}, ton.BlockState{}},
		"zero state":         {ton.GetState{ID: blockIDExt(-1, 0, n.zero.masterRef.root, n.zero.masterRef.file)}, ton.BlockState{}},
		"account":            {ton.GetAccountState{ID: head, Account: acc}, ton.AccountState{}},
		"account in a shard": {ton.GetAccountState{ID: shard, Account: acc}, ton.AccountState{}},
		"account pruned":     {ton.GetAccountStatePruned{ID: head, Account: acc}, ton.AccountState{}},
		"account elsewhere":  {ton.GetAccountState{ID: head, Account: ton.AccountID{Workchain: 3, ID: acc.ID}}, ton.LSError{Code: -400}},
		"masterchain acc":    {ton.GetAccountState{ID: head, Account: ton.AccountID{Workchain: -1, ID: acc.ID}}, ton.AccountState{}},
		"method":             {ton.RunSmcMethod{Mode: 7, ID: head, Account: acc, MethodID: 1}, ton.RunMethodResult{}},
		"shards":             {ton.GetAllShardsInfo{ID: head}, ton.AllShardsInfo{}},
		"shard":              {ton.GetShardInfo{ID: head, Shard: wholeShard}, ton.ShardInfo{}},
		"shard proof":        {ton.GetShardBlockProof{ID: shard}, ton.ShardBlockProof{}},
		"shard proof mc":     {ton.GetShardBlockProof{ID: head}, ton.ShardBlockProof{}},
		"transactions":       {ton.GetTransactions{Limit: 5, AccID: &acc, LT: int64(tx.lt), TxHash: txHash(t, n, to.Hash, tx)}, ton.TransactionList{}},
		"wrong lt":           {ton.GetTransactions{Limit: 5, AccID: &acc, LT: 5, TxHash: make([]byte, 32)}, ton.LSError{Code: -400}},
		"wrong hash":         {ton.GetTransactions{Limit: 5, AccID: &acc, LT: int64(tx.lt), TxHash: make([]byte, 32)}, ton.LSError{Code: -400}},
		"one transaction":    {ton.GetOneTransaction{ID: shard, AccID: &acc, LT: int64(tx.lt)}, ton.TransactionInfo{}},
		"list":               {ton.ListBlockTransactions{ID: shard, Mode: 7 | 1<<5 | 1<<6, Count: 10, WantProof: &ton.True{}, ReverseOrder: &ton.True{}}, ton.BlockTransactions{}},
		"list ext":           {ton.ListBlockTransactionsExt{ID: shard, Mode: 1 << 5, Count: 10, WantProof: &ton.True{}}, ton.BlockTransactionsExt{}},
		"list of the master": {ton.ListBlockTransactions{ID: head, Mode: 7, Count: 10}, ton.BlockTransactions{}},
		"config":             {ton.GetConfigAll{BlockID: head}, ton.ConfigAll{}},
		"params":             {ton.GetConfigParams{BlockID: head, Params: []int32{19, 12345}}, ton.ConfigAll{}},
		"config of a shard":  {ton.GetConfigAll{BlockID: shard}, ton.LSError{Code: -400}},
		"block proof":        {ton.GetBlockProof{KnownBlock: n.key.id()}, ton.PartialBlockProof{}},
		"libraries":          {ton.GetLibraries{LibraryList: [][]byte{lib.Hash(), make([]byte, 32)}}, ton.LibraryResult{}},
		"queue sizes":        {ton.GetOutMsgQueueSizes{}, ton.OutMsgQueueSizes{}},
		"validator stats":    {ton.GetValidatorStats{ID: head}, ton.LSError{Code: -400}},
	} {
		t.Run(name, func(t *testing.T) {
			var res tl.Serializable
			if err := api.Client().QueryLiteserver(ctx, q.query, &res); err != nil {
				t.Fatal(err)
			}
			e, isErr := res.(ton.LSError)
			want, wantErr := q.want.(ton.LSError)
			if isErr != wantErr || e.Code != want.Code || !wantErr && reflect.TypeOf(res) != reflect.TypeOf(q.want) {
				t.Errorf("answer %T %+v, want %T %d", res, res, q.want, want.Code)
			}
		})
	}
}

func txHash(t testing.TB, n *network, account hash, r txRef) []byte {
	t.Helper()
	root, err := n.blockRoot(r.block)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.block.transaction(root, txID{account, r.lt})
	if err != nil {
		t.Fatal(err)
	}
	return c.Hash()
}

// TestManyClients runs queries while blocks are made; it is for the race
// detector.
func TestManyClients(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true, KeepStates: 16})
	ctx := testContext(t)
	done := make(chan error, 4)
	for range cap(done) {
		api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
		go func() { done <- readAlong(ctx, api, c.FaucetAddress()) }()
	}
	for i := range 15 {
		if err := c.Faucet(ctx, killedAccount(i), coins.PerCoin); err != nil {
			t.Fatal(err)
		}
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func readAlong(ctx context.Context, api fresh, a cocoon.Address) error {
	for range 15 {
		head, err := api.GetMasterchainInfo(ctx)
		if err != nil {
			return err
		}
		if _, err := api.GetAccount(ctx, head, tonAddress(a)); err != nil {
			return err
		}
		if _, err := api.RunGetMethod(ctx, head, tonAddress(a), "seqno"); err != nil {
			return err
		}
	}
	return nil
}

// tlBytes is a TL string of up to 16 MiB.
func tlBytes(b []byte) []byte {
	out := []byte{byte(len(b))}
	if len(b) >= 254 {
		out = []byte{254, byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16)}
	}
	out = append(out, b...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}
