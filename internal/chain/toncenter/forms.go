//go:build !tee

package toncenter

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// object is a JSON object; the API's are typed by "@type".
type object map[string]any

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func amount(n coins.Nano) string { return strconv.FormatUint(uint64(n), 10) }

func (b Block) form() object {
	return object{
		"@type": "ton.blockIdExt", "workchain": b.Workchain, "shard": strconv.FormatInt(b.Shard, 10), "seqno": b.Seqno,
		"root_hash": b64(b.RootHash[:]), "file_hash": b64(b.FileHash[:]),
	}
}

func (t TransactionID) form() object {
	return object{"@type": "internal.transactionId", "lt": strconv.FormatUint(t.LT, 10), "hash": b64(t.Hash[:])}
}

func (a Account) form(b Block) object {
	return object{
		"@type": "raw.fullAccountState", "balance": amount(a.Balance), "extra_currencies": []any{},
		"code": b64(a.Code), "data": b64(a.Data), "last_transaction_id": a.Last.form(), "block_id": b.form(),
		"frozen_hash": b64(a.Frozen), "state": a.State,
	}
}

func (t Transaction) form(a cocoon.Address) object {
	out := object{
		"@type": "raw.transaction", "utime": t.Time.Unix(), "data": b64(t.BOC), "transaction_id": t.ID.form(),
		"address": object{"@type": "accountAddress", "account_address": a.Friendly(true, false)},
		"account": a.Raw(), "fee": amount(t.Fee), "storage_fee": amount(t.StorageFee), "other_fee": amount(t.Fee - min(t.StorageFee, t.Fee)),
	}
	if t.In != nil {
		out["in_msg"] = t.In.form()
	}
	msgs := []any{}
	for _, m := range t.Out {
		msgs = append(msgs, m.form())
	}
	out["out_msgs"] = msgs
	return out
}

func (m Message) form() object {
	data := object{"@type": "msg.dataRaw", "body": b64(m.Body), "init_state": b64(m.StateInit)}
	text := b64(m.Body)
	if m.Text != "" {
		data = object{"@type": "msg.dataText", "text": b64([]byte(m.Text))}
		text = m.Text
	}
	addr := func(a *cocoon.Address) string {
		if a == nil {
			return ""
		}
		return a.Friendly(true, false)
	}
	return object{
		"@type": "raw.message", "hash": b64(m.Hash[:]), "source": addr(m.Source), "destination": addr(m.Destination),
		"value": amount(m.Value), "extra_currencies": []any{}, "fwd_fee": amount(m.ForwardFee), "ihr_fee": "0",
		"created_lt": strconv.FormatUint(m.CreatedLT, 10), "body_hash": b64(m.BodyHash[:]), "msg_data": data, "message": text,
	}
}

// stackForm writes a result stack, the top last.
func stackForm(stack []any) []any {
	out := make([]any, 0, len(stack))
	for _, v := range stack {
		switch v := v.(type) {
		case *big.Int:
			out = append(out, []any{"num", hexNumber(v)})
		case Cell:
			out = append(out, []any{"cell", object{"bytes": b64(v)}})
		case Slice:
			out = append(out, []any{"slice", object{"bytes": b64(v)}})
		case []any:
			out = append(out, []any{"tuple", object{"@type": "tvm.tuple", "elements": entries(v)}})
		default:
			out = append(out, []any{"list", object{"@type": "tvm.list", "elements": []any{}}})
		}
	}
	return out
}

func entries(list []any) []any {
	out := make([]any, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case *big.Int:
			out = append(out, object{"@type": "tvm.stackEntryNumber", "number": object{"@type": "tvm.numberDecimal", "number": v.String()}})
		case Cell:
			out = append(out, object{"@type": "tvm.stackEntryCell", "cell": object{"@type": "tvm.cell", "bytes": b64(v)}})
		case Slice:
			out = append(out, object{"@type": "tvm.stackEntrySlice", "slice": object{"@type": "tvm.slice", "bytes": b64(v)}})
		case []any:
			out = append(out, object{"@type": "tvm.stackEntryTuple", "tuple": object{"@type": "tvm.tuple", "elements": entries(v)}})
		default:
			out = append(out, object{"@type": "tvm.stackEntryList", "list": object{"@type": "tvm.list", "elements": []any{}}})
		}
	}
	return out
}

func hexNumber(v *big.Int) string {
	if v.Sign() < 0 {
		return "-0x" + new(big.Int).Neg(v).Text(16)
	}
	return "0x" + v.Text(16)
}

// maxStack bounds the parameters of a get-method, nested ones included.
const maxStack = 256

// parseStack reads parameters: ["num", "0x2a"], ["cell"|"tvm.Cell", BoC],
// ["slice"|"tvm.Slice", BoC], ["tuple", [...]], ["null"].
func parseStack(list []any) ([]any, error) {
	left := maxStack
	return parseStackList(list, &left)
}

func parseStackList(list []any, left *int) ([]any, error) {
	out := make([]any, 0, min(len(list), maxStack))
	for _, e := range list {
		if *left--; *left < 0 {
			return nil, fmt.Errorf("more than %d stack values", maxStack)
		}
		v, err := parseStackValue(e, left)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func parseStackValue(e any, left *int) (any, error) {
	pair, ok := e.([]any)
	if !ok || len(pair) == 0 || len(pair) > 2 {
		return nil, errors.New("a stack value is a pair of type and value")
	}
	kind, _ := pair[0].(string)
	if kind == "null" {
		return nil, nil
	}
	if len(pair) != 2 {
		return nil, errors.New("a stack value is a pair of type and value")
	}
	switch kind {
	case "num", "int":
		return parseNumber(fmt.Sprint(pair[1]))
	case "tuple", "tvm.Tuple":
		list, ok := pair[1].([]any)
		if !ok {
			return nil, errors.New("a tuple is a list of stack values")
		}
		return parseStackList(list, left)
	case "cell", "tvm.Cell", "slice", "tvm.Slice":
		if o, ok := pair[1].(map[string]any); ok {
			pair[1] = o["bytes"]
		}
		s, _ := pair[1].(string)
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) == 0 {
			return nil, fmt.Errorf("a %s is a bag of cells in base64", kind)
		}
		if strings.HasSuffix(strings.ToLower(kind), "cell") {
			return Cell(b), nil
		}
		return Slice(b), nil
	}
	return nil, fmt.Errorf("stack values of type %q are not known", kind)
}

func parseNumber(s string) (*big.Int, error) {
	if len(s) > 100 {
		return nil, errors.New("a number is at most 257 bits")
	}
	v, ok := new(big.Int).SetString(s, 0)
	if !ok || v.BitLen() > 256 {
		return nil, fmt.Errorf("%q is not a number of at most 257 bits", s)
	}
	return v, nil
}

// parseHash reads 32 bytes in hex or any base64.
func parseHash(s string) (h [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		b, err = base64.StdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(s))
	}
	if err != nil || len(b) != 32 {
		return h, fmt.Errorf("%q is not a hash of 32 bytes in hex or base64", s)
	}
	return [32]byte(b), nil
}
