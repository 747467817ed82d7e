// Command mtproto is a Telegram server for tests whose AI methods,
// messages.translateText and messages.summarizeText, are answered by
// `cocoon assist`. See README.md.
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/gotd/td/exchange"
	"github.com/gotd/td/session"
	"github.com/gotd/td/telegram"
	"github.com/gotd/td/telegram/dcs"
	"github.com/gotd/td/tg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	base := flag.String("assist", "http://127.0.0.1:10002", "address that `cocoon assist` printed")
	listen := flag.String("listen", "127.0.0.1:10443", "address for MTProto clients")
	try := flag.String("try", "", "text that a client sends, has translated and summarised; then end")
	to := flag.String("to", "en", "language for -try")
	flag.Parse()
	a, err := newAssist(*base, os.Getenv("ASSIST_KEY"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("%w: choose another -listen", err)
	}
	b, err := newBackend(a, l.Addr().(*net.TCPAddr))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- b.serve(ctx, l) }()
	if *try != "" {
		err := connect(ctx, l.Addr(), b.server.Key(), func(ctx context.Context, c *tg.Client) error {
			return show(ctx, c, *try, *to)
		})
		cancel()
		<-served
		return err
	}
	defer cancel()
	fmt.Printf("MTProto, DC %d, at %s; its public key:\n%s", dc, l.Addr(),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(b.server.Key().RSA)}))
	return <-served
}

// connect runs f with a stock gotd client of the server at addr.
func connect(ctx context.Context, addr net.Addr, key exchange.PublicKey, f func(context.Context, *tg.Client) error) error {
	at := addr.(*net.TCPAddr)
	client := telegram.NewClient(1, "hash", telegram.Options{ // a real app id is for Telegram's own servers
		DC:             dc,
		DCList:         dcs.List{Options: []tg.DCOption{{ID: dc, IPAddress: at.IP.String(), Port: at.Port}}},
		PublicKeys:     []exchange.PublicKey{key},
		Resolver:       dcs.Plain(dcs.PlainOptions{}),
		SessionStorage: &session.StorageMemory{},
		NoUpdates:      true,
	})
	return client.Run(ctx, func(ctx context.Context) error { return f(ctx, client.API()) })
}

// show does with one text what the methods offer.
func show(ctx context.Context, c *tg.Client, text, to string) error {
	sent, err := c.MessagesSendMessage(ctx, &tg.MessagesSendMessageRequest{Peer: &tg.InputPeerSelf{}, Message: text, RandomID: 1})
	if err != nil {
		return err
	}
	message, ok := sent.(*tg.UpdateShortSentMessage)
	if !ok {
		return fmt.Errorf("messages.sendMessage gave %T", sent)
	}
	rq := &tg.MessagesTranslateTextRequest{ToLang: to}
	rq.SetPeer(&tg.InputPeerSelf{})
	rq.SetID([]int{message.ID})
	translated, err := c.MessagesTranslateText(ctx, rq)
	if err != nil {
		return fmt.Errorf("messages.translateText: %w", err)
	}
	for _, t := range translated.Result {
		fmt.Println("messages.translateText:", t.Text)
	}
	sum := &tg.MessagesSummarizeTextRequest{Peer: &tg.InputPeerSelf{}, ID: message.ID}
	sum.SetToLang(to)
	summary, err := c.MessagesSummarizeText(ctx, sum)
	if err != nil {
		return fmt.Errorf("messages.summarizeText: %w", err)
	}
	fmt.Println("messages.summarizeText:", summary.Text)
	return nil
}
