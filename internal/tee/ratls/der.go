package ratls

import (
	"bytes"
	"fmt"
)

// The object identifiers of a certificate with evidence, as DER contents
// (spec attestation 1.1, changes-2026-04 15.1).
var (
	oidQuote      = []byte{0x2b, 6, 1, 4, 1, 0xe0, 0x39, 1}   // 1.3.6.1.4.1.12345.1
	oidClaims     = []byte{0x2b, 6, 1, 4, 1, 0xe0, 0x39, 2}   // 1.3.6.1.4.1.12345.2
	oidReportData = []byte{0x2b, 6, 1, 4, 1, 0xe0, 0x39, 100} // 1.3.6.1.4.1.12345.100
	oidReport     = []byte{0x2b, 6, 1, 4, 1, 0xe0, 0x39, 101}
	oidSigner     = []byte{0x2b, 6, 1, 4, 1, 0xe0, 0x39, 102}

	oidSubjectKeyID     = []byte{0x55, 0x1d, 14}
	oidKeyUsage         = []byte{0x55, 0x1d, 15}
	oidSubjectAltName   = []byte{0x55, 0x1d, 17}
	oidBasicConstraints = []byte{0x55, 0x1d, 19}
	oidExtKeyUsage      = []byte{0x55, 0x1d, 37}

	oidServerAuth = []byte{0x2b, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth = []byte{0x2b, 6, 1, 5, 5, 7, 3, 2}

	// knownCritical may be marked critical without a refusal.
	knownCritical = [][]byte{
		oidQuote, oidClaims, oidReportData, oidReport, oidSigner,
		oidSubjectKeyID, oidKeyUsage, oidSubjectAltName, oidBasicConstraints, oidExtKeyUsage,
	}
)

// Bounds of the walk.
const (
	maxExtensions = 64
	maxNames      = 64
)

// DER tags.
const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagOID         = 0x06
	tagSequence    = 0x30
	tagVersion     = 0xa0 // [0] EXPLICIT in a TBSCertificate
	tagIssuerID    = 0x81 // [1] IMPLICIT
	tagSubjectID   = 0x82 // [2] IMPLICIT
	tagExtensions  = 0xa3 // [3] EXPLICIT
	tagDNSName     = 0x82 // [2] IMPLICIT in a GeneralName
)

// extension is one X.509 extension; its slices belong to the certificate.
type extension struct {
	oid      []byte
	critical bool
	value    []byte
}

func find(exts []extension, oid []byte) (extension, bool) {
	for _, x := range exts {
		if bytes.Equal(x.oid, oid) {
			return x, true
		}
	}
	return extension{}, false
}

// walkExtensions reads the extensions of a TBSCertificate, whatever version it
// claims. It holds the whole structure against the grammar and refuses
// duplicates and more than maxExtensions.
func walkExtensions(tbs []byte) ([]extension, error) {
	r := &reader{b: tbs}
	seq := r.enter(tagSequence)
	r.end()
	seq.optional(tagVersion)
	for _, tag := range []byte{tagInteger, tagSequence, tagSequence, tagSequence, tagSequence, tagSequence} {
		seq.enter(tag) // serial, algorithm, issuer, validity, subject, key
	}
	seq.optional(tagIssuerID)
	seq.optional(tagSubjectID)
	var exts []extension
	if outer, ok := seq.optional(tagExtensions); ok {
		list := outer.enter(tagSequence)
		outer.end()
		seen := map[string]bool{}
		for list.more() {
			if len(exts) == maxExtensions {
				return nil, fmt.Errorf("%w: more than %d extensions", ErrCertificate, maxExtensions)
			}
			x := readExtension(list)
			if seen[string(x.oid)] {
				return nil, fmt.Errorf("%w: extension %x twice", ErrCertificate, x.oid)
			}
			seen[string(x.oid)] = true
			exts = append(exts, x)
		}
		outer.adopt(list)
		seq.adopt(outer)
	}
	seq.end()
	if r.adopt(seq); r.failed {
		return nil, fmt.Errorf("%w: its structure is broken", ErrCertificate)
	}
	return exts, nil
}

func readExtension(list *reader) (x extension) {
	e := list.enter(tagSequence)
	x.oid = e.enter(tagOID).b
	if b, ok := e.optional(tagBoolean); ok {
		switch {
		case bytes.Equal(b.b, []byte{0xff}):
			x.critical = true
		case !bytes.Equal(b.b, []byte{0}):
			e.fail()
		}
	}
	x.value = e.enter(tagOctetString).b
	e.end()
	list.adopt(e)
	return x
}

// readOIDs reads a SEQUENCE OF OBJECT IDENTIFIER.
func readOIDs(der []byte) (oids [][]byte, err error) {
	r := &reader{b: der}
	seq := r.enter(tagSequence)
	r.end()
	for seq.more() {
		if len(oids) == maxNames {
			seq.fail()
			break
		}
		oids = append(oids, seq.enter(tagOID).b)
	}
	if r.adopt(seq); r.failed || len(oids) == 0 {
		return nil, fmt.Errorf("%w: its usages are broken", ErrCertificate)
	}
	return oids, nil
}

// readDNSNames reads the DNS names among GeneralNames.
func readDNSNames(der []byte) (names []string, err error) {
	r := &reader{b: der}
	seq := r.enter(tagSequence)
	r.end()
	for n := 0; seq.more(); n++ {
		if n == maxNames {
			seq.fail()
			break
		}
		tag, body := seq.next()
		if tag == tagDNSName {
			names = append(names, string(body))
		}
	}
	if r.adopt(seq); r.failed {
		return nil, fmt.Errorf("%w: its names are broken", ErrCertificate)
	}
	return names, nil
}

// reader walks DER elements: single-byte tags, definite minimal lengths. After
// a failure it yields nothing more.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) fail()      { r.b, r.failed = nil, true }
func (r *reader) more() bool { return len(r.b) > 0 }

// end fails unless everything was read.
func (r *reader) end() {
	if r.more() {
		r.fail()
	}
}

// adopt passes on the failure of an inner reader.
func (r *reader) adopt(inner *reader) {
	if inner.failed {
		r.fail()
	}
}

// next returns the next element's tag and contents.
func (r *reader) next() (tag byte, body []byte) {
	if len(r.b) < 2 || r.b[0]&0x1f == 0x1f {
		r.fail()
		return 0, nil
	}
	tag, n, rest := r.b[0], int(r.b[1]), r.b[2:]
	if n >= 0x80 {
		size := n & 0x7f
		if size == 0 || size > 3 || size > len(rest) || rest[0] == 0 {
			r.fail()
			return 0, nil
		}
		n = 0
		for _, b := range rest[:size] {
			n = n<<8 | int(b)
		}
		if rest = rest[size:]; n < 0x80 {
			r.fail()
			return 0, nil
		}
	}
	if n > len(rest) {
		r.fail()
		return 0, nil
	}
	r.b = rest[n:]
	return tag, rest[:n]
}

// enter returns the contents of the next element, which must have this tag.
func (r *reader) enter(tag byte) *reader {
	got, body := r.next()
	if got != tag {
		r.fail()
		return &reader{failed: true}
	}
	return &reader{b: body}
}

// optional enters the next element if it has this tag.
func (r *reader) optional(tag byte) (*reader, bool) {
	if !r.more() || r.b[0] != tag {
		return nil, false
	}
	in := r.enter(tag)
	r.adopt(in)
	return in, !in.failed
}
