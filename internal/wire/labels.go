package wire

// Whatever is hashed or signed besides cells begins with one of these labels,
// so that no value has two meanings (docs/protocol.md, labels). Each ends with
// a zero byte, and what is signed is longer than the 32 bytes of a cell's hash.
const (
	LabelNetwork        = "cocoon/network/v1\x00"
	LabelLogin          = "cocoon/login/v1\x00"
	LabelStatement      = "cocoon/statement/v1\x00"
	LabelProxyStatement = "cocoon/proxy-statement/v1\x00"
	LabelSuccessor      = "cocoon/successor/v1\x00"
	LabelSession        = "cocoon/session/v1\x00"

	LabelReceipt        = "cocoon/receipt/v1\x00"
	LabelReceiptRequest = "cocoon/receipt-request/v1\x00"
	LabelBalances       = "cocoon/balances/v1\x00"
	LabelBalanceSalt    = "cocoon/balance-salt/v1\x00"
	LabelReceiptAnswer  = "cocoon/receipt-answer/v1\x00"

	LabelSeal      = "cocoon/seal/v1\x00"
	LabelCommit    = "cocoon/commit/v1\x00"
	LabelWrap      = "cocoon/wrap/v1\x00"
	LabelResponse  = "cocoon/resp/v1\x00"
	LabelFrame     = "cocoon/frame/v1\x00"
	LabelAccept    = "cocoon/accept/v1\x00"
	LabelSet       = "cocoon/set/v1\x00"
	LabelCacheSalt = "cocoon/cache-salt/v1\x00"
)

// ExporterKEK is the label under which a seal session exports its key.
const ExporterKEK = "cocoon/kek/v1"

// ExporterSession is the label under which a session asks TLS for keying
// material (RFC 8446 7.5), and ExporterSize how many bytes.
const (
	ExporterSession = "EXPORTER-cocoon-session-v1"
	ExporterSize    = 32
)
