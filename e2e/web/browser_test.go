package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/e2e/testee"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// patience is how long anything may take that has to happen at all.
const patience = 40 * time.Second

// require skips a test that lacks something, or fails it where everything has
// to be there.
func require(t *testing.T, have bool, lacking string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("COCOON_REQUIRE") != "" {
		t.Fatalf("%s, and COCOON_REQUIRE is set", lacking)
	}
	t.Skip(lacking)
}

// network starts `cocoon up --assist` and returns the program and the addresses
// of the web app and the gateway.
func network(t *testing.T) (bin, app, gateway string) {
	t.Helper()
	bin = os.Getenv("COCOON_BIN")
	if bin == "" {
		bin = filepath.Join(t.TempDir(), "cocoon")
		if err := testee.Build(bin); err != nil {
			t.Fatal(err)
		}
	}
	said := start(t, bin, []string{"ready ", "assist "}, "up", "--dir", filepath.Join(t.TempDir(), "net"), "--listen", "127.0.0.1:0", "--assist=127.0.0.1:0")
	return bin, said[1], said[0]
}

// start runs the program until the test ends, and returns what follows these
// words, each of which begins a line.
func start(t *testing.T, bin string, words []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan []string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		said := make([]string, len(words))
		left := len(words)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			for i, w := range words {
				if rest, ok := strings.CutPrefix(lines.Text(), w); ok && said[i] == "" {
					said[i] = rest
					if left--; left == 0 {
						found <- said
					}
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-ended
		_ = cmd.Wait()
	})
	select {
	case said := <-found:
		return said
	case <-ended:
		t.Fatalf("cocoon %s ended: %s", args[0], stderr.String())
	case <-time.After(patience):
		t.Fatalf("cocoon %s did not say %q within %v", args[0], words, patience)
	}
	return nil
}

// chromium starts a browser with a fresh profile, for all pages of a test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("COCOON_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	require(t, path != "", "no Chromium; tools/deps.sh installs one, or name it in COCOON_CHROMIUM")
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU,
		chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience)}
	for _, f := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-default-apps", "hide-scrollbars", "disable-dev-shm-usage"} {
		opts = append(opts, chromedp.Flag(f, true))
	}
	alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {})) // it complains of events newer than it
	t.Cleanup(func() {
		cancel()
		stop()
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	return ctx
}

// page is a tab of the browser.
type page struct {
	t    *testing.T
	ctx  context.Context
	name string

	mu       sync.Mutex
	problems []string
}

// open loads url in a tab of its own. Whatever goes wrong in its console fails
// the test at its end.
func open(t *testing.T, chrome context.Context, url string, width, height int64, dark bool) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chrome)
	p := &page{t: t, ctx: ctx, name: strings.ReplaceAll(t.Name(), "/", "-")}
	chromedp.ListenTarget(ctx, func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			p.problems = append(p.problems, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
				p.problems = append(p.problems, fmt.Sprint("console: ", string(e.Args[0].Value), e.Args[0].Description))
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
				p.problems = append(p.problems, e.Entry.Text+" "+e.Entry.URL)
			}
		}
	})
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.problems {
			t.Errorf("the browser's console: %s", s)
		}
		cancel()
	})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	origin, _, _ := strings.Cut(url, "/#")
	p.do(
		log.Enable(),
		storage.ClearDataForOrigin(origin, "local_storage"),
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
		chromedp.Navigate(url),
	)
	p.wait(`document.documentElement.dataset.ready`)
	return p
}

// expected takes from the console's errors the one that holds part.
func (p *page) expected(part string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.problems {
		if strings.Contains(s, part) {
			p.problems = append(p.problems[:i], p.problems[i+1:]...)
			return
		}
	}
	p.t.Errorf("the console has nothing of %q: %q", part, p.problems)
}

func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// The tab must outlive this context, so it is not what makes it.
	if chromedp.FromContext(p.ctx).Target == nil {
		if err := chromedp.Run(p.ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.shot("failed")
		p.t.Fatal(err)
	}
}

// js evaluates an expression.
func (p *page) js(expr string, out any) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expr, out))
}

// is evaluates an expression as a truth.
func (p *page) is(expr string) (ok bool) {
	p.t.Helper()
	p.js("!!("+expr+")", &ok)
	return ok
}

// text returns the visible text of the first element of a selector.
func (p *page) text(sel string) (s string) {
	p.t.Helper()
	p.js("(document.querySelector("+quote(sel)+")?.innerText ?? '')", &s)
	return s
}

// wait waits until an expression is true.
func (p *page) wait(expr string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !p.is(expr); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.shot("failed")
			p.t.Fatalf("not within %v: %s\nthe page says: %s", patience, expr, p.text("main"))
		}
	}
}

// done waits until the task of a form has ended.
func (p *page) done(out string) {
	p.t.Helper()
	p.wait("document.querySelector(" + quote(out) + ").childElementCount > 0 && !document.querySelector(" + quote(out) + ").hasAttribute('aria-busy')")
}

// click clicks an element where it is, as a finger or mouse would.
func (p *page) click(sel string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(sel, chromedp.ByQuery), chromedp.Click(sel, chromedp.ByQuery, chromedp.NodeVisible))
}

// write replaces what stands in a field by typing.
func (p *page) write(sel, text string) {
	p.t.Helper()
	p.js("document.querySelector("+quote(sel)+").value = ''", nil)
	p.do(chromedp.SendKeys(sel, text, chromedp.ByQuery, chromedp.NodeVisible))
}

// choose picks an option of a select.
func (p *page) choose(sel, value string) {
	p.t.Helper()
	p.js(fmt.Sprintf("(() => { const s = document.querySelector(%s); s.value = %s; s.dispatchEvent(new Event('change', {bubbles: true})); })()", quote(sel), quote(value)), nil)
}

// key presses a key.
func (p *page) key(k string, opts ...chromedp.KeyOption) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(k, opts...))
}

// shot writes a screenshot if COCOON_SHOTS names a folder.
func (p *page) shot(name string) {
	dir := os.Getenv("COCOON_SHOTS")
	if dir == "" {
		return
	}
	var b []byte
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if chromedp.Run(ctx, chromedp.Evaluate("scrollTo(0, 0)", nil), chromedp.FullScreenshot(&b, 100)) == nil {
		_ = os.WriteFile(filepath.Join(dir, p.name+"-"+name+".png"), b, 0o600)
	}
}

// named checks that whatever can be used has a name for those who cannot see,
// and that nothing is wider than the screen.
func (p *page) named(what string) {
	p.t.Helper()
	// Read by hand: the browser says things newer than the library's types.
	var tree struct {
		Nodes []struct {
			Ignored bool `json:"ignored"`
			Role    struct {
				Value any `json:"value"`
			} `json:"role"`
			Name struct {
				Value any `json:"value"`
			} `json:"name"`
		} `json:"nodes"`
	}
	p.do(chromedp.ActionFunc(func(ctx context.Context) error {
		return cdp.Execute(ctx, "Accessibility.getFullAXTree", nil, &tree)
	}))
	used := 0
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		switch role {
		case "button", "textbox", "searchbox", "combobox", "checkbox", "switch", "radio", "tab", "tabpanel", "tablist", "spinbutton", "link", "Date", "complementary":
			used++
			if strings.TrimSpace(name) == "" {
				p.t.Errorf("%s: a %s has no accessible name", what, role)
			}
		}
	}
	if used < 8 {
		p.t.Errorf("%s: only %d things to use; is the page there?", what, used)
	}
	if !p.is("document.documentElement.scrollWidth <= innerWidth") {
		p.t.Errorf("%s: the page is wider than the screen", what)
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// downloads lets the browser save files into dir.
func downloads(dir string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		c := chromedp.FromContext(ctx)
		return browser.SetDownloadBehavior(browser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(dir).WithBrowserContextID(c.BrowserContextID).Do(cdp.WithExecutor(ctx, c.Browser))
	})
}
