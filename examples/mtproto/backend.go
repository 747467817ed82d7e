package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gotd/td/bin"
	"github.com/gotd/td/exchange"
	"github.com/gotd/td/tg"
	"github.com/gotd/td/tgerr"
	"github.com/gotd/td/tgtest"
	"github.com/gotd/td/tgtest/services"
	"github.com/gotd/td/tgtest/services/config"
	"github.com/gotd/td/transport"
)

const (
	dc             = 2
	maxTextUnits   = 4096 // UTF-16 units of one message, as Telegram has it
	maxTexts       = 20   // texts of one translation
	maxMessages    = 1000 // messages kept for one client
	maxClients     = 1000 // clients with messages
	maxInFlight    = 32   // calls of assist at a time
	timeOfOneCall  = 5 * time.Minute
	waitWhenIsBusy = "FLOOD_WAIT_1"
)

// backend is a Telegram server with one chat for each client (Saved Messages)
// and the AI methods on it. A client is its MTProto key: nobody signs in. All
// is kept in memory. Methods may be called from any goroutine.
type backend struct {
	assist *assist
	server *tgtest.Server
	slots  chan struct{}

	mu       sync.Mutex
	messages map[[8]byte][]tg.TextWithEntities // by key; ids are places, from 1
}

// newBackend makes a server that says it is at addr.
func newBackend(a *assist, addr *net.TCPAddr) (*backend, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	b := &backend{assist: a, slots: make(chan struct{}, maxInFlight), messages: map[[8]byte][]tg.TextWithEntities{}}
	d := tgtest.NewDispatcher().Fallback(services.NotImplemented)
	cfg := &tg.Config{ThisDC: dc, DCOptions: []tg.DCOption{{ID: dc, IPAddress: addr.IP.String(), Port: addr.Port, Static: true}}}
	config.NewService(cfg, &tg.CDNConfig{}).Register(d)
	d.HandleFunc(tg.MessagesSendMessageRequestTypeID, b.send)
	d.HandleFunc(tg.MessagesTranslateTextRequestTypeID, slow(b, "TRANSLATE_REQ_FAILED", b.translate))
	d.HandleFunc(tg.MessagesSummarizeTextRequestTypeID, slow(b, "SUMMARIZE_REQ_FAILED", b.summarize))
	b.server = tgtest.NewServer(exchange.PrivateKey{RSA: key}, tgtest.UnpackInvoke(d), tgtest.ServerOptions{DC: dc})
	return b, nil
}

// serve answers clients until ctx ends.
func (b *backend) serve(ctx context.Context, l net.Listener) error {
	return b.server.Serve(ctx, transport.ListenCodec(nil, l))
}

// send is messages.sendMessage to oneself.
func (b *backend) send(s *tgtest.Server, req *tgtest.Request) error {
	var rq tg.MessagesSendMessageRequest
	if err := rq.Decode(req.Buf); err != nil {
		return err
	}
	t := tg.TextWithEntities{Text: rq.Message, Entities: rq.Entities}
	if err := errors.Join(checkPeer(rq.Peer), checkText(t, "MESSAGE_EMPTY", "MESSAGE_TOO_LONG")); err != nil {
		return err
	}
	client := req.Session.AuthKey.ID
	b.mu.Lock()
	_, known := b.messages[client]
	full := !known && len(b.messages) >= maxClients || len(b.messages[client]) >= maxMessages
	if !full {
		b.messages[client] = append(b.messages[client], t)
	}
	id := len(b.messages[client])
	b.mu.Unlock()
	if full {
		return tgerr.New(400, "CHAT_FULL")
	}
	return s.SendResult(req, &tg.UpdateShortSentMessage{Out: true, ID: id, Pts: id, PtsCount: 1, Date: int(time.Now().Unix()), Entities: rq.Entities})
}

// stored gives messages of a client's chat.
func (b *backend) stored(client [8]byte, peer tg.InputPeerClass, ids ...int) ([]tg.TextWithEntities, error) {
	if err := checkPeer(peer); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []tg.TextWithEntities
	for _, id := range ids {
		if id < 1 || id > len(b.messages[client]) {
			return nil, tgerr.New(400, "MSG_ID_INVALID")
		}
		out = append(out, b.messages[client][id-1])
	}
	return out, nil
}

func (b *backend) translate(ctx context.Context, client [8]byte, rq *tg.MessagesTranslateTextRequest) (bin.Encoder, error) {
	texts := rq.Text
	if len(rq.ID) > 0 && len(texts) == 0 {
		if len(rq.ID) > maxTexts {
			return nil, tgerr.New(400, "INPUT_TEXT_TOO_LONG")
		}
		var err error
		if texts, err = b.stored(client, rq.Peer, rq.ID...); err != nil {
			return nil, err
		}
	}
	switch {
	case len(texts) == 0:
		return nil, tgerr.New(400, "INPUT_TEXT_EMPTY")
	case len(texts) > maxTexts:
		return nil, tgerr.New(400, "INPUT_TEXT_TOO_LONG")
	case rq.ToLang == "" || !utf8.ValidString(rq.ToLang):
		return nil, tgerr.New(400, "TO_LANG_INVALID")
	}
	for _, t := range texts {
		if err := checkText(t, "INPUT_TEXT_EMPTY", "INPUT_TEXT_TOO_LONG"); err != nil {
			return nil, err
		}
	}
	out, err := b.assist.translate(ctx, texts, rq.ToLang)
	if err != nil {
		return nil, err
	}
	return &tg.MessagesTranslateResult{Result: out}, nil
}

func (b *backend) summarize(ctx context.Context, client [8]byte, rq *tg.MessagesSummarizeTextRequest) (bin.Encoder, error) {
	texts, err := b.stored(client, rq.Peer, rq.ID)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(rq.ToLang) {
		return nil, tgerr.New(400, "TO_LANG_INVALID")
	}
	s, err := b.assist.summarize(ctx, texts[0].Text, rq.ToLang)
	if err != nil {
		return nil, err
	}
	return &tg.TextWithEntities{Text: s}, nil
}

// slow makes a handler of a method that takes seconds: it acknowledges the
// request, so that the client does not send it again, and answers from a
// goroutine, so that the connection's pings are answered meanwhile. An error that
// Telegram has no word for becomes fault, and its cause is logged.
func slow[T any, P interface {
	*T
	bin.Decoder
}](b *backend, fault string, f func(context.Context, [8]byte, P) (bin.Encoder, error)) func(*tgtest.Server, *tgtest.Request) error {
	return func(s *tgtest.Server, req *tgtest.Request) error {
		var rq T
		if err := P(&rq).Decode(req.Buf); err != nil {
			return err
		}
		select {
		case b.slots <- struct{}{}:
		default:
			return tgerr.New(420, waitWhenIsBusy)
		}
		r := *req
		r.Buf = nil // the connection reads its next request into it
		if err := s.SendAck(r.RequestCtx, r.Session, r.MsgID); err != nil {
			<-b.slots
			return err
		}
		go func() {
			defer func() { <-b.slots }()
			ctx, cancel := context.WithTimeout(r.RequestCtx, timeOfOneCall)
			defer cancel()
			result, err := f(ctx, r.Session.AuthKey.ID, &rq)
			if err == nil {
				err = s.SendResult(&r, result)
			} else {
				told, ok := tgerr.As(err)
				if !ok {
					log.Printf("%s: %v", fault, err)
					told = tgerr.New(500, fault)
				}
				err = s.SendErr(&r, told)
			}
			if err != nil {
				log.Printf("an answer did not reach its client: %v", err)
			}
		}()
		return nil
	}
}

func checkPeer(p tg.InputPeerClass) error {
	if _, ok := p.(*tg.InputPeerSelf); !ok {
		return tgerr.New(400, "PEER_ID_INVALID")
	}
	return nil
}

func checkText(t tg.TextWithEntities, empty, long string) error {
	switch {
	case strings.TrimSpace(t.Text) == "":
		return tgerr.New(400, empty)
	case !utf8.ValidString(t.Text):
		return tgerr.New(400, "INPUT_TEXT_INVALID")
	case len(utf16.Encode([]rune(t.Text))) > maxTextUnits:
		return tgerr.New(400, long)
	}
	return nil
}
