package telegram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultServer is Telegram's own.
const DefaultServer = "https://api.telegram.org"

const (
	maxAnswer    = 8 << 20 // bytes of an answer: 100 updates, each far below 64 KiB
	maxUpdate    = 256 << 10
	maxRetryWait = 30 * time.Second // a longer retry_after is the caller's to hear
	maxTries     = 5
	pollTime     = 50 * time.Second
)

var tokenForm = regexp.MustCompile(`^[0-9]{1,16}:[A-Za-z0-9_-]{20,80}$`)

// Client calls the Bot API. Errors and logs never hold the token, although
// each address does.
type Client struct {
	base  string // with the token
	token string
	http  *http.Client
	// wait sleeps; tests cannot wait as long as Telegram may ask.
	wait func(context.Context, time.Duration) error
}

// NewClient makes a Client. server "" = DefaultServer; h nil = a client of its
// own that follows no redirects, since an address is a secret.
func NewClient(token, server string, h *http.Client) (*Client, error) {
	token = strings.TrimSpace(token)
	if !tokenForm.MatchString(token) {
		return nil, errors.New("the bot token has not the form 123456:ABC…: take it from @BotFather as it is")
	}
	if server == "" {
		server = DefaultServer
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the Bot API server must be an address like https://api.telegram.org")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("a Bot API server elsewhere needs https: the token travels in the address")
	}
	if h == nil {
		h = &http.Client{}
	}
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimSuffix(server, "/") + "/bot" + token + "/", token: token, http: &own, wait: sleep}, nil
}

// BotID is the number before the token's colon.
func (c *Client) BotID() int64 {
	id, _, _ := strings.Cut(c.token, ":")
	n, _ := strconv.ParseInt(id, 10, 64)
	return n
}

// LogValue keeps the token out of logs.
func (c *Client) LogValue() slog.Value {
	return slog.StringValue("bot " + strconv.FormatInt(c.BotID(), 10))
}

// APIError is a refusal by the Bot API.
type APIError struct {
	Method      string
	Code        int
	Description string
	RetryAfter  time.Duration // of 429
}

func (e *APIError) Error() string {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusNotFound:
		return fmt.Sprintf("telegram: %s: %d %s: is the token right, and the server one that knows this method?", e.Method, e.Code, e.Description)
	case http.StatusConflict:
		return fmt.Sprintf("telegram: %s: %d %s: only one program may take a bot's updates: stop the other one, or remove the webhook with deleteWebhook", e.Method, e.Code, e.Description)
	case http.StatusTooManyRequests:
		return fmt.Sprintf("telegram: %s: too many calls; Telegram asks to wait %s", e.Method, e.RetryAfter)
	}
	return fmt.Sprintf("telegram: %s: %d %s", e.Method, e.Code, e.Description)
}

// codeOf is the Bot API's code of an error, 0 if there is none.
func codeOf(err error) int {
	var e *APIError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Call calls a method with a JSON object of parameters and decodes its result
// into out, which may be nil. It waits as 429 asks, and tries again with
// back-off where the call cannot have been carried out, or may be twice.
func (c *Client) Call(ctx context.Context, method string, params, out any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("telegram: %s: parameters cannot be encoded: %w", method, err)
	}
	pause := 250 * time.Millisecond
	for try := 1; ; try++ {
		retry, err := c.once(ctx, method, body, out)
		if err == nil || !retry || try == maxTries || ctx.Err() != nil {
			return err
		}
		wait := pause
		var e *APIError
		if errors.As(err, &e) && e.RetryAfter > 0 {
			if e.RetryAfter > maxRetryWait || method == "sendMessageDraft" {
				return err // of drafts only the newest counts: the caller has a newer one by then
			}
			wait = e.RetryAfter
		} else {
			pause *= 2
		}
		if err := c.wait(ctx, wait); err != nil {
			return err
		}
	}
}

// once makes one call; retry says that another may succeed and does no harm.
func (c *Client) once(ctx context.Context, method string, body []byte, out any) (retry bool, err error) {
	limit := 30 * time.Second
	if method == "getUpdates" {
		limit = pollTime + 20*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("telegram: %s: no such address", method)
	}
	req.Header.Set("Content-Type", "application/json")
	repeatable := method == "sendMessageDraft" || !strings.HasPrefix(method, "send")
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		dialed := !errors.As(err, &op) || op.Op != "dial"
		return repeatable || !dialed, c.clean(method, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return repeatable, c.clean(method, err)
	}
	if len(b) > maxAnswer {
		return false, fmt.Errorf("telegram: %s: the answer has more than %d bytes", method, maxAnswer)
	}
	var a struct {
		OK          bool            `json:"ok"`
		Result      json.RawMessage `json:"result"`
		Code        int             `json:"error_code"`
		Description string          `json:"description"`
		Parameters  struct {
			RetryAfter int64 `json:"retry_after"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		e := &APIError{Method: method, Code: resp.StatusCode, Description: "the answer is not of the Bot API's form"}
		return resp.StatusCode >= 500, e
	}
	if !a.OK {
		if a.Code == 0 {
			a.Code = resp.StatusCode
		}
		e := &APIError{Method: method, Code: a.Code, Description: c.redact(clip(a.Description, 200))}
		if a.Code == http.StatusTooManyRequests {
			e.RetryAfter = time.Duration(min(max(a.Parameters.RetryAfter, 1), 1<<20)) * time.Second
		}
		return a.Code == http.StatusTooManyRequests || a.Code >= 500, e
	}
	if out == nil {
		return false, nil
	}
	if err := json.Unmarshal(a.Result, out); err != nil {
		return false, fmt.Errorf("telegram: %s: the result is not of the Bot API's form", method)
	}
	return false, nil
}

// clean takes the address, and with it the token, out of an error.
func (c *Client) clean(method string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("telegram: %s: %w", method, err)
	}
	return fmt.Errorf("telegram: %s: no answer: %s", method, c.redact(err.Error()))
}

func (c *Client) redact(s string) string {
	_, secret, _ := strings.Cut(c.token, ":")
	return strings.ReplaceAll(strings.ReplaceAll(s, c.token, "[token]"), secret, "[token]")
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
