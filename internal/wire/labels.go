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
	LabelReceiptAnswer  = "cocoon/receipt-answer/v1\x00"
)

// ExporterSession is the label under which a session asks TLS for keying
// material (RFC 8446 7.5), and ExporterSize how many bytes.
const (
	ExporterSession = "EXPORTER-cocoon-session-v1"
	ExporterSize    = 32
)
