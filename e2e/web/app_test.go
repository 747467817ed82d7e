package web_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
)

// TestApp goes through each page on a phone and on a desktop.
func TestApp(t *testing.T) {
	chrome := chromium(t)
	bin, url, gateway := network(t)
	file := export(t)
	for _, s := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"phone", 390, 844, false}, {"desktop", 1280, 800, true}} {
		t.Run(s.name, func(t *testing.T) {
			p := open(t, chrome, url, s.width, s.height, s.dark)
			if bg := p.background(); (bg < 128) != s.dark {
				t.Errorf("brightness %d of the page; dark mode is %v", bg, s.dark)
			}
			compose(p)
			summarise(p, file)
			search(p)
			proof(p)
		})
	}
	t.Run("keyboard", func(t *testing.T) { keyboard(open(t, chrome, url, 390, 844, true)) })
	t.Run("languages", func(t *testing.T) { languages(open(t, chrome, url, 390, 844, false)) })
	t.Run("errors", func(t *testing.T) { failures(open(t, chrome, url, 1280, 800, false)) })
	t.Run("stop", func(t *testing.T) { stop(open(t, chrome, url, 390, 844, false)) })
	t.Run("telegram", func(t *testing.T) {
		hash := "#tgWebAppData=user%3D%257B%2522id%2522%253A1%252C%2522language_code%2522%253A%2522ru%2522%257D&tgWebAppVersion=9.0&tgWebAppThemeParams=%7B%22bg_color%22%3A%22%2317212b%22%2C%22text_color%22%3A%22%23f5f5f5%22%2C%22secondary_bg_color%22%3A%22%23232e3c%22%7D"
		p := open(t, chrome, url+"/"+hash, 390, 844, false)
		if bg := p.background(); bg > 60 {
			t.Errorf("brightness %d; Telegram's dark theme was not taken", bg)
		}
		if got := p.text("#tab-summarise"); got != "Сводка" {
			t.Errorf("a Russian user reads %q", got)
		}
		p.shot("compose")
	})
	t.Run("miniapp", func(t *testing.T) { miniApp(t, chrome, bin, gateway) })
}

// miniApp opens the app as Telegram's clients do, whose signature is a stand-in's.
func miniApp(t *testing.T, chrome context.Context, bin, gateway string) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	app := start(t, bin, []string{"assist "}, "assist", "--listen", "127.0.0.1:0", "--upstream", gateway, "--dir", t.TempDir(),
		"--mini-app-bot", fmt.Sprint(telegramtest.BotID), "--mini-app-key", hex.EncodeToString(key.Public().(ed25519.PublicKey)), "--total-daily-nano", "1000000000")[0]
	launch := func(user int, at time.Time, name string) string {
		data := telegramtest.InitData(key, map[string]string{"auth_date": fmt.Sprint(at.Unix()), "query_id": name, "user": fmt.Sprintf(`{"id":%d,"first_name":"Anna","language_code":"id"}`, user)})
		return app + "/#tgWebAppData=" + url.QueryEscape(data) + "&tgWebAppVersion=9.1&tgWebAppPlatform=android"
	}
	closed := func(url, want string) {
		t.Helper()
		p := open(t, chrome, url, 390, 844, false)
		if s := p.text("#closed"); !strings.Contains(s, want) {
			t.Errorf("the page says %q, not %q", s, want)
		}
		p.expected("401")
		p.named("closed")
		p.shot("closed")
	}
	closed(app, "from its bot")
	closed(launch(1, time.Now().Add(-2*time.Hour), "old"), "older than an hour")
	closed(strings.Replace(launch(1, time.Now(), "forged"), "Anna", "Anne", 1), "not signed by Telegram")

	first := launch(1, time.Now(), "a")
	p := open(t, chrome, first, 390, 844, false)
	if p.text("#closed") != "" || p.text("#tab-summarise") != "Ringkas" {
		t.Fatalf("a user of Telegram does not get in: %s", p.text("body"))
	}
	if p.is("document.cookie") {
		t.Error("scripts can read the session")
	}
	p.write("#draft", "how are yuo")
	p.click("#improve")
	p.done("#compose-out")
	if p.text("#compose-out [data-result]") != "How are you?" {
		t.Errorf("no new draft: %s", p.text("#compose-out"))
	}
	p.named("compose")
	p.shot("compose")
	p.do(chromedp.Reload()) // with the same launch
	p.wait(`document.documentElement.dataset.ready`)
	if p.text("#closed") != "" {
		t.Errorf("after a reload: %s", p.text("#closed"))
	}

	// Another one on the same device does not find the first one's messages.
	p.js(`fetch("assist/v1/index", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({chat: "c", messages: [{id: 1, text: "the harbour gate"}]})}).then((r) => { document.body.dataset.indexed = r.status })`, nil)
	p.wait(`document.body.dataset.indexed === "200"`)
	find := func(p *page, want string) {
		t.Helper()
		p.js(`fetch("assist/v1/search", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({query: "harbour"})}).then((r) => r.json()).then((a) => { document.body.dataset.hits = a.hits.length })`, nil)
		p.wait(`document.body.dataset.hits`)
		var got string
		p.js("document.body.dataset.hits", &got)
		if got != want {
			t.Errorf("%s hits, not %s", got, want)
		}
	}
	find(p, "1")
	other := open(t, chrome, launch(2, time.Now(), "b"), 390, 844, true)
	find(other, "0")
	// The first one's window does not act for the other one.
	p.write("#draft", "how are yuo")
	p.click("#improve")
	p.done("#compose-out")
	if s := p.text("#compose-out [role=alert]"); !strings.Contains(s, "dari botnya di Telegram") {
		t.Errorf("a window whose session another took says %q", s)
	}
	p.expected("401")
	closed(first, "used before")
}

// background returns the brightness of the page's background, 0 to 255.
func (p *page) background() (n int) {
	p.t.Helper()
	p.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3 | 0", &n)
	return n
}

// export writes a chat as Telegram Desktop exports it, with things that must
// not become markup.
func export(t *testing.T) string {
	t.Helper()
	people := []string{"Anna", "Ben", "Citra"}
	var messages []map[string]any
	at := int64(1_790_000_000)
	for i := 1; i <= 260; i++ {
		text := any(fmt.Sprintf("Message %d about the garden and the weather.", i))
		switch i {
		case 40:
			text = []any{"The code of the ", map[string]string{"type": "bold", "text": "harbour"}, " gate is with Citra. ", map[string]string{"type": "link", "text": "https://example.com"}}
		case 250:
			text = "Ben, will you bring the tickets on Friday?"
		case 255:
			text = `<img src=x onerror="document.body.dataset.pwned=1"><b>bold</b>`
		case 258:
			text = "We meet on Friday at six in the cafe."
		}
		m := map[string]any{"id": i, "type": "message", "date": time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05"), "date_unixtime": fmt.Sprint(at), "from": people[i%3], "from_id": fmt.Sprint("user", i%3), "text": text}
		if i == 258 {
			m["reply_to_message_id"] = 250
		}
		messages = append(messages, m)
		at += 3600
	}
	messages = append(messages, map[string]any{"id": 261, "type": "service", "action": "pin_message"})
	b, err := json.Marshal(map[string]any{"name": "Garden <i>club</i>", "type": "private_group", "id": 1, "messages": messages})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "result.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// vouched checks what stands under every answer.
func (p *page) vouched(out string) {
	p.t.Helper()
	line := p.text(out + " .proofline")
	for _, want := range []string{"SIMULATED", "GRAM", "Sealed", "What proves this?"} {
		if !strings.Contains(line, want) {
			p.t.Errorf("%s: no %q under the answer: %q", out, want, line)
		}
	}
}

func compose(p *page) {
	t := p.t
	if !strings.Contains(p.text("header"), "SIMULATED") {
		t.Error("the page does not say that the network is simulated")
	}
	p.wait("document.readyState === 'complete'")
	if !p.is("scrollY === 0 && document.getElementById('simulated').getBoundingClientRect().top >= 0") {
		t.Error("the page opens scrolled past what it says of the network")
	}
	p.shot("compose-empty")
	p.write("#draft", "how are yuo")
	p.click("#improve")
	p.done("#compose-out")
	if p.text("#compose-out [data-result]") != "How are you?" || p.text("#compose-out del") != "how" || p.text("#compose-out ins") != "How" {
		t.Errorf("no new draft with its changes: %s", p.text("#compose-out"))
	}
	p.vouched("#compose-out")
	p.named("compose")
	p.shot("compose-proofread")

	p.click("#proofread")
	p.choose("#translate-to", "id")
	p.write("#draft", "Good morning!")
	p.click("#improve")
	p.done("#compose-out")
	p.vouched("#compose-out")

	p.choose("#translate-to", "")
	p.choose("#tone", "own")
	p.write("#own-tone", "like a pirate")
	p.click("#emojify")
	p.click("#proofread")
	p.click("#improve")
	p.done("#compose-out")
	p.vouched("#compose-out")
	p.shot("compose-tone")

	p.write("#received", "Are you coming to the party on Friday?")
	p.click("#suggest")
	p.done("#replies-out")
	p.vouched("#replies-out")
	var n int
	p.js("document.querySelectorAll('#replies-out .reply').length", &n)
	if n != 3 {
		t.Errorf("%d replies", n)
	}
	p.click("#replies-out .reply")
	if !p.is("document.querySelector('#replies-out .reply').innerText.startsWith(document.querySelector('#draft').value) && document.activeElement.id === 'draft'") {
		t.Error("a chosen reply is not in the draft")
	}
	p.shot("compose-replies")
}

func summarise(p *page, file string) {
	t := p.t
	p.click("#tab-summarise")
	p.shot("summarise-empty")
	p.write("#paste", "Anna: Ben, will you bring the tickets?\nBen: Yes, on Friday.\nAnna: Where do we meet?")
	p.click("#summarise-go")
	p.done("#summary-out")
	p.vouched("#summary-out")
	p.jumps("#summary-out")
	p.shot("summarise-pasted")

	p.click("#source-chat")
	p.do(chromedp.SetUploadFiles("#summary-file", []string{file}, chromedp.ByQuery))
	p.wait("document.querySelector('#summary-me').options.length === 4")
	if s := p.text("#summarise .loader"); !strings.Contains(s, "Garden <i>club</i>: 260 messages") {
		t.Errorf("loaded: %q", s)
	}
	if p.is("document.body.dataset.pwned") || p.is("document.querySelector('#reader img, #reader b')") {
		t.Error("a message became markup")
	}
	count := func(want string) {
		t.Helper()
		if s := p.text("#range-count"); !strings.Contains(s, want) {
			t.Errorf("the page says %q of the range, not %q", s, want)
		}
	}
	count("50")
	p.choose("#range", "mine")
	count("Say who you are")
	p.choose("#summary-me", "user1") // wrote 259
	count(": 1")
	p.choose("#range", "dates")
	count("260 messages; the newest 200")
	p.choose("#range", "last")
	p.write("#last", "12")
	count(": 12")
	p.js("[...document.querySelectorAll('#m-258 button')][0].click()", nil)
	count(": 3")
	p.choose("#range", "last")
	p.shot("summarise-chat")
	p.click("#summarise-go")
	p.done("#summary-out")
	p.vouched("#summary-out")
	p.named("summarise")
	p.jumps("#summary-out")
	p.shot("summarise-jumped")
	p.click("#back")
	if !p.is("document.activeElement.matches('#summary-out .ref')") {
		t.Error("the way back does not lead to the reference")
	}
	p.shot("summarise-done")
}

// jumps checks that the first reference of an answer leads to its message.
func (p *page) jumps(out string) {
	p.t.Helper()
	var id string
	p.js("document.querySelector("+quote(out+" .ref")+")?.dataset.ref ?? ''", &id)
	if id == "" {
		p.t.Errorf("%s: no reference: %s", out, p.text(out))
		return
	}
	p.click(out + " .ref")
	p.wait("document.activeElement.id === 'm-" + id + "'")
	if !p.is("(r => r.top >= 0 && r.bottom <= innerHeight)(document.activeElement.getBoundingClientRect())") {
		p.t.Errorf("%s: message %s is not in sight", out, id)
	}
}

func search(p *page) {
	t := p.t
	p.click("#tab-search")
	p.write("#query", "harbours")
	p.click("#search-go")
	p.done("#search-out")
	if !p.is("document.querySelector('#search-out .hits li [data-ref=\"40\"]') && document.querySelector('#search-out mark').innerText === 'harbour'") {
		t.Errorf("the message was not found: %s", p.text("#search-out"))
	}
	p.jumps("#search-out")
	p.shot("search-words")
	p.write("#query", "nothingofthekind")
	p.click("#search-go")
	p.done("#search-out")
	if s := p.text("#search-out"); !strings.Contains(s, "Nothing found") {
		t.Errorf("found: %s", s)
	}

	p.click("#index-go")
	p.done("#index-out")
	if s := p.text("#index-out"); !strings.Contains(s, "260 messages of this chat") {
		t.Errorf("indexed: %s", s)
	}
	p.vouched("#index-out")
	for _, how := range []string{"index", "ask"} {
		p.choose("#how", how)
		p.write("#query", "When do we meet in the cafe?")
		p.click("#search-go")
		p.done("#search-out")
		p.vouched("#search-out")
		if !p.is("document.querySelector('#search-out .hits li [data-ref=\"258\"]')") {
			t.Errorf("%s: %s", how, p.text("#search-out"))
		}
		p.jumps("#search-out")
		p.shot("search-" + how)
	}
	p.named("search")
	p.click("#mask")
	if s := p.text("#mask-help"); !strings.Contains(s, "Other names") {
		t.Errorf("nothing says what is hidden: %q", s)
	}
	p.click("#search-go")
	p.done("#search-out")
	p.vouched("#search-out")
	p.named("masked")
	p.shot("search-masked")
	p.click("#mask")
	p.click("#drop-index")
	p.done("#index-out")
	if s := p.text("#index-out"); !strings.Contains(s, "260 messages") {
		t.Errorf("deleted: %s", s)
	}
	p.click("#search-go")
	p.done("#search-out")
	if s := p.text("#search-out"); !strings.Contains(s, "Nothing found in the index") {
		t.Errorf("after deletion: %s", s)
	}
}

func proof(p *page) {
	t := p.t
	dir := t.TempDir()
	p.do(downloads(dir))
	p.click("#tab-compose")
	p.click("#replies-out .proofline .link")
	if !p.is("document.activeElement.id === 'proof-detail'") {
		t.Error("the link under an answer does not lead to its proof")
	}
	s := p.text("#proof-detail")
	for _, want := range []string{"Suggested replies", "SIMULATED", "the evidence came from a simulator", "encrypted for the worker alone", "GRAM", "replies@", "What it does not prove", "Anything about hardware"} {
		if !strings.Contains(s, want) {
			t.Errorf("the proof does not say %q: %s", want, s)
		}
	}
	// The receipt comes a moment after the answer.
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		p.click("#proof-detail [data-receipt]")
		p.wait("document.querySelector('#proof-detail .out')?.childElementCount && !document.querySelector('#proof-detail .working')")
		if p.is("document.querySelector('#proof-detail pre')") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no receipt: %s", p.text("#proof-detail .out"))
		}
	}
	if s := p.text("#proof-detail .out"); !strings.Contains(s, "keep it to yourself") {
		t.Errorf("nothing says what the file of a receipt holds: %s", s)
	}
	p.named("proof")
	p.shot("proof")
	p.click("#proof-detail .out .primary")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		names, _ := filepath.Glob(filepath.Join(dir, "receipt-*.json"))
		if len(names) == 1 {
			b, err := os.ReadFile(names[0])
			if err == nil && json.Valid(b) && len(b) > 200 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the receipt was not saved")
		}
	}
}

// keyboard uses the page without a pointer.
func keyboard(p *page) {
	t := p.t
	p.js("document.getElementById('tab-compose').focus()", nil)
	for _, want := range []string{"summarise", "search", "proof", "compose"} {
		p.key(kb.ArrowRight)
		if !p.is("document.activeElement.id === 'tab-" + want + "' && !document.getElementById('" + want + "').hidden && document.activeElement.getAttribute('aria-selected') === 'true'") {
			t.Fatalf("the arrow does not lead to %s", want)
		}
	}
	if !p.is("document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none'") {
		t.Error("the focus is not seen")
	}
	p.key(kb.End)
	p.key(kb.Home)
	p.key(kb.Tab) // into the panel
	if !p.is("document.activeElement.id === 'draft'") {
		t.Error("Tab does not lead from the tabs to the draft")
	}
	p.key("hello wrld")
	p.key(kb.Enter, chromedp.KeyModifiers(2)) // Control
	p.done("#compose-out")
	p.vouched("#compose-out")
	p.shot("compose")
}

// languages switches, and looks whether any words stay behind.
func languages(p *page) {
	t := p.t
	for code, want := range map[string]string{"id": "Ringkas", "ru": "Сводка", "en": "Summarise"} {
		p.choose("#language", code)
		if got := p.text("#tab-summarise"); got != want || !p.is("document.documentElement.lang === '"+code+"'") {
			t.Errorf("%s: the tab says %q", code, got)
		}
		var missing []string
		p.js("[...document.querySelectorAll('[data-t]')].filter(e => e.textContent === e.dataset.t && /[a-z][A-Z_]/.test(e.dataset.t)).map(e => e.dataset.t)", &missing)
		if len(missing) > 0 {
			t.Errorf("%s: no words for %q", code, missing)
		}
		p.named(code)
		p.shot(code)
	}
	p.choose("#language", "ru")
	p.click("#mask")
	p.do(chromedp.Reload())
	p.wait(`document.documentElement.dataset.ready`)
	if p.text("#tab-summarise") != "Сводка" || !p.is("document.getElementById('mask').checked") {
		t.Error("the settings are not remembered")
	}
}

// failures looks at what a person reads when something is wrong.
func failures(p *page) {
	t := p.t
	says := func(out, want string) {
		t.Helper()
		p.done(out)
		if s := p.text(out + " [role=alert]"); !strings.Contains(s, want) {
			t.Errorf("the error says %q, not %q", s, want)
		}
	}
	p.click("#improve")
	says("#compose-out", "Write a draft first")
	p.write("#draft", "x")
	p.click("#proofread")
	p.click("#improve")
	says("#compose-out", "Choose at least one")
	p.click("#proofread")
	p.js("document.getElementById('draft').value = 'word '.repeat(4000)", nil)
	p.click("#improve")
	says("#compose-out", "16000")
	p.expected("400")
	p.shot("refused")
	p.click("#tab-search")
	bad := filepath.Join(t.TempDir(), "bad.json")
	for content, want := range map[string]string{"no json": "not JSON", `{"messages":[]}`: "holds no chat", `{"type":"secret_chat","messages":[]}`: "secret chat"} {
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p.do(chromedp.SetUploadFiles("#search-file", []string{bad}, chromedp.ByQuery))
		p.wait("document.querySelector('#search .loader [role=alert]')?.innerText.includes(" + quote(want) + ")")
	}
}

// stop holds a request back and presses the button.
func stop(p *page) {
	t := p.t
	held := make(chan string, 1)
	chromedp.ListenTarget(p.ctx, func(ev any) {
		if e, ok := ev.(*fetch.EventRequestPaused); ok && len(e.Request.PostDataEntries) == 1 {
			b, _ := base64.StdEncoding.DecodeString(e.Request.PostDataEntries[0].Bytes)
			held <- string(b) // and never goes on
		}
	})
	p.do(fetch.Enable().WithPatterns([]*fetch.RequestPattern{{URLPattern: "*/assist/v1/compose"}}))
	p.click("#mask")
	p.write("#draft", "hello wrld")
	p.click("#improve")
	select {
	case body := <-held:
		if !strings.Contains(body, `"mask":true`) {
			t.Errorf("the switch does not hide personal data: %s", body)
		}
	case <-time.After(patience):
		t.Fatal("nothing was asked")
	}
	p.click("#compose-form [data-stop]")
	p.done("#compose-out")
	if s := p.text("#compose-out"); !strings.Contains(s, "Stopped") {
		t.Errorf("after Stop: %s", s)
	}
	if !p.is("!document.getElementById('improve').disabled && document.querySelector('#compose-form [data-stop]').hidden") {
		t.Error("after Stop the form cannot be used again")
	}
	p.do(chromedp.ActionFunc(func(ctx context.Context) error { return fetch.Disable().Do(ctx) }))
}
