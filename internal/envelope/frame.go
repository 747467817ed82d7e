package envelope

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// MaxBody is how much of an answer one frame carries at most: with the largest
// bucket, a head and a receipt beside it, the frame is below mux.MaxPart.
const MaxBody = 32 << 10

// maxHead bounds the head, which has little but a content type in it.
const maxHead = 8 << 10

// maxBox bounds a frame that is opened.
const maxBox = 64 << 10

// Frame is a piece of an answer. Everything in it is optional.
type Frame struct {
	// Head is the boxed http.response; it stands in the first frame.
	Head []byte
	Body []byte
	// Error ends an answer that failed after it was accepted: nobody but the
	// client hears why.
	Error *wire.Error
	// End is set in the last frame: SHA-256 of the worker's part of the
	// receipt.
	End *[32]byte
}

// frames is what both directions of an answer share: a counter for the nonce,
// and the end.
type frames struct {
	aead   cipher.AEAD
	bucket int
	count  uint64
	over   bool
}

func (f *frames) nonce() (n [12]byte) {
	binary.BigEndian.PutUint64(n[4:], f.count)
	return n
}

// frameData is the additional data of a frame.
func frameData(final bool) []byte {
	if final {
		return lastFrame
	}
	return someFrame
}

var someFrame, lastFrame = []byte(wire.LabelFrame + "\x00"), []byte(wire.LabelFrame + "\x01")

// Writer makes the frames of an answer, at the worker.
type Writer struct{ frames }

// Seal makes the next frame: the boxed object that travels in place of a piece
// of the body. receipt stands beside the last frame in clear.
func (w *Writer) Seal(f Frame, receipt []byte) ([]byte, error) {
	final := f.End != nil
	switch {
	case w.over:
		return nil, ErrEnded
	case len(f.Body) > MaxBody || len(f.Head) > maxHead:
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrSize, len(f.Body))
	case !final && len(receipt) > 0:
		return nil, errors.New("sealed answer: a receipt before the end")
	}
	o := schema.CocoonAnswerFrame{Head: f.Head, Body: f.Body}
	if f.Head != nil {
		o.Flags |= 1
	}
	if f.Error != nil {
		o.Flags |= 2
		o.Error = &schema.CocoonAnswerError{Code: int32(f.Error.Code), Text: f.Error.Text}
	}
	if final {
		o.Flags |= 4
		o.End = *f.End
	}
	// cocoon.sealFrame is built around the box, which is encrypted where it
	// stands: nothing is copied.
	const head = 4 + 4 // constructor, final
	size := multiple(w.bucket)
	room := size(4+4+o.SizeTL()) + w.aead.Overhead()
	b := make([]byte, 0, head+tl.BytesSize(room)+tl.BytesSize(len(receipt)))
	b = tl.AppendBytesPrefix(tl.AppendBool(tl.AppendUint32(b, sealFrameID), final), room)
	at := len(b)
	plain := tl.AppendUint32(b[at:at+4:at+room], answerFrameID) // after room for the length
	plain = pad(o.AppendTL(plain), size)
	nonce := w.nonce()
	w.count++
	w.over = final
	w.aead.Seal(plain[:0], nonce[:], plain, frameData(final))
	b = tl.AppendPadding(b[:at+room], room)
	return tl.AppendBytes(b, receipt), nil
}

// Constructors that stand where no object is encoded as a whole.
var (
	sealFrameID   = (*schema.CocoonSealFrame)(nil).TLID()
	answerFrameID = (*schema.CocoonAnswerFrame)(nil).TLID()
)

// Reader opens the frames of an answer, at the client. Errors are final.
type Reader struct {
	// Session is that with the worker which took the request, Nonce its own.
	Session *Session
	Nonce   [32]byte
	// Secret is the response key, from which the salts of the receipt follow.
	Secret [32]byte

	frames
	err error
}

// Open opens the next frame, in b, which is the frame's from then on. receipt
// is what stood in clear beside the last one; whoever gets it checks it against
// Frame.End.
func (r *Reader) Open(b []byte) (f Frame, receipt []byte, err error) {
	if r.err != nil {
		return Frame{}, nil, r.err
	}
	f, receipt, r.err = r.open(b)
	return f, receipt, r.err
}

func (r *Reader) open(b []byte) (f Frame, receipt []byte, err error) {
	if r.over {
		return f, nil, ErrEnded
	}
	w, err := ParseFrame(b)
	if err != nil {
		return f, nil, err
	}
	nonce := r.nonce()
	plain, err := r.aead.Open(w.Box[:0], nonce[:], w.Box, frameData(w.Final))
	if err != nil {
		return f, nil, ErrFrame
	}
	r.count++
	r.over = w.Final
	inner, err := unpad(plain, multiple(r.bucket))
	if err != nil {
		return f, nil, err
	}
	// As decode does it, without an allocation for each frame.
	var o schema.CocoonAnswerFrame
	d := tl.NewCanonicalReader(inner)
	if d.ID() != answerFrameID {
		d.Unexpected()
	}
	o.DecodeTL(d)
	if err := d.Finish(); err != nil {
		return f, nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if o.Flags > 7 || w.Final != (o.Flags&4 != 0) {
		return f, nil, fmt.Errorf("%w: the parts of a frame", ErrFormat)
	}
	f.Body = o.Body
	if o.Flags&1 != 0 {
		f.Head = o.Head
	}
	if o.Flags&2 != 0 {
		text := o.Error.Text
		f.Error = &wire.Error{Code: wire.Code(o.Error.Code), Text: text[:min(len(text), maxErrorText)]}
	}
	if w.Final {
		end := o.End
		f.End = &end
	}
	return f, w.Receipt, nil
}

// maxErrorText bounds what is kept of a worker's error.
const maxErrorText = 512

// End says whether the answer was whole: nil after its last frame.
func (r *Reader) End() error {
	switch {
	case r.err != nil:
		return r.err
	case !r.over:
		return ErrCut
	}
	return nil
}

// SealedFrame is a frame as it travels: what a proxy sees of it.
type SealedFrame struct {
	Final   bool
	Box     []byte
	Receipt []byte
}

// ParseFrame reads a frame without opening it.
func ParseFrame(b []byte) (SealedFrame, error) {
	if len(b) > maxBox {
		return SealedFrame{}, fmt.Errorf("%w: a frame of %d bytes", ErrSize, len(b))
	}
	var w schema.CocoonSealFrame
	d := tl.NewCanonicalReader(b)
	if d.ID() != sealFrameID {
		d.Unexpected()
	}
	w.DecodeTL(d)
	if err := d.Finish(); err != nil {
		return SealedFrame{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if !w.Final && len(w.Receipt) > 0 {
		return SealedFrame{}, fmt.Errorf("%w: a receipt before the end", ErrFormat)
	}
	return SealedFrame(w), nil
}

// IsAcceptance reports whether the head of an answer is a sealed one's.
func IsAcceptance(b []byte) bool { return schema.ID(b) == (*schema.CocoonAccepted)(nil).TLID() }

// Acceptance is what a proxy reads of an acceptance.
type Acceptance struct{ Session, Statement, Nonce [32]byte }

// ParseAcceptance reads an acceptance without checking who signed it.
func ParseAcceptance(b []byte) (*Acceptance, error) {
	a, err := decode[schema.CocoonAccepted](b)
	if err != nil {
		return nil, err
	}
	return &Acceptance{a.Session, a.Statement, a.Nonce}, nil
}
