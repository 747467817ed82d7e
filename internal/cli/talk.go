package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/node"
)

// apiKeyVariable holds the API key that commands call a gateway with.
const apiKeyVariable = "OPENAI_API_KEY"

// gateway is the endpoint commands talk to: --url, OPENAI_BASE_URL, or the
// network that runs in --dir.
type gateway struct {
	base      string // with /v1
	client    *http.Client
	simulated bool // the network said so
	key       string
}

func (a *app) gateway(address string) (*gateway, error) {
	if address == "" {
		address = a.getenv("OPENAI_BASE_URL")
	}
	if address == "" {
		s, err := node.ReadState(a.dir)
		if err != nil {
			return nil, err
		}
		return &gateway{base: s.Gateway + "/v1", client: &http.Client{}, simulated: s.Simulated, key: a.getenv(apiKeyVariable)}, nil
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usageError{fmt.Errorf("%q is no address for --url or OPENAI_BASE_URL: write it as http://127.0.0.1:10000/v1", address)}
	}
	return &gateway{base: strings.TrimSuffix(address, "/"), client: &http.Client{}, key: a.getenv(apiKeyVariable)}, nil
}

// call sends a request and returns the answer, whose body the caller closes.
func (g *gateway) call(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, g.base+path, r)
	if err != nil {
		return nil, err
	}
	if g.key != "" {
		req.Header.Set("Authorization", "Bearer "+g.key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no endpoint at %s: %w; is `cocoon up` running?", g.base, err)
	}
	g.simulated = g.simulated || resp.Header.Get("X-Cocoon-Simulated") == "true"
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, errors.New(openai.ParseError(resp.StatusCode, b).Message)
	}
	return resp, nil
}

type modelList struct {
	Data []modelEntry `json:"data"`
}

type modelEntry struct {
	ID      string `json:"id"`
	Workers []struct {
		Coefficient int `json:"coefficient"`
		Running     int `json:"running_requests"`
		Max         int `json:"max_running_requests"`
	} `json:"workers"`
	Price uint64 `json:"price_per_token_nano"`
}

// choose returns the model called name, or the first one if name is empty.
func (l modelList) choose(name string) (string, error) {
	var names []string
	for _, m := range l.Data {
		if m.ID == name {
			return name, nil
		}
		names = append(names, fmt.Sprintf("%q", m.ID))
	}
	switch {
	case len(names) == 0:
		return "", errors.New("no model is served now: `cocoon status` shows what is missing")
	case name == "":
		return l.Data[0].ID, nil
	}
	return "", fmt.Errorf("no worker serves the model %q now; served are %s", name, strings.Join(names, ", "))
}

func (g *gateway) models(ctx context.Context) (modelList, error) {
	resp, err := g.call(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return modelList{}, err
	}
	defer resp.Body.Close()
	var l modelList
	err = json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(&l)
	return l, err
}

func (a *app) modelsCommand() *cobra.Command {
	var address string
	cmd := a.jsonFlag(&cobra.Command{
		Use:     "models",
		Short:   "What live workers serve, and at what price",
		Example: "  cocoon models\n  cocoon models --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := a.gateway(address)
			if err != nil {
				return err
			}
			l, err := g.models(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(l)
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			if g.simulated {
				fmt.Fprintln(w, "SIMULATED network: no hardware protects it")
			}
			fmt.Fprintln(w, "MODEL\tWORKERS\tBUSY\tPRICE PER MILLION TOKENS")
			for _, m := range l.Data {
				busy, room, low := 0, 0, 0
				for i, x := range m.Workers {
					busy, room = busy+x.Running, room+x.Max
					if i == 0 || x.Coefficient < low {
						low = x.Coefficient
					}
				}
				price := "free"
				if low > 0 && m.Price > 0 {
					price = "from " + coins.Nano(m.Price*uint64(low)*1000).String()
				}
				fmt.Fprintf(w, "%s\t%d\t%d/%d\t%s\n", m.ID, len(m.Workers), busy, room, price)
			}
			return w.Flush()
		},
	})
	cmd.Flags().StringVar(&address, "url", "", "OpenAI base URL (default: OPENAI_BASE_URL, or the network in --dir)")
	return cmd
}

func (a *app) chatCommand() *cobra.Command {
	var address, model, system string
	var maxTokens int
	cmd := &cobra.Command{
		Use:   "chat [PROMPT]",
		Short: "Talk to a model",
		Long: `Send a prompt and print the answer as it comes. Without PROMPT, lines are read
from standard input: a conversation that ends with the input.

Where the endpoint asks for an API key, that of the variable OPENAI_API_KEY is
sent.`,
		Example: `  cocoon chat "What is Cocoon?"
  echo "Translate to German: good morning" | cocoon chat`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("more than one PROMPT: put it in quotes")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := a.gateway(address)
			if err != nil {
				return err
			}
			c := &conversation{app: a, g: g, model: model, maxTokens: maxTokens}
			// Asked first: a network just started waits for workers of names it
			// does not know yet.
			l, err := g.models(cmd.Context())
			if err != nil && c.model == "" {
				return err
			}
			if err == nil {
				if c.model, err = l.choose(model); err != nil {
					return err
				}
			}
			if system != "" {
				c.messages = append(c.messages, message{"system", system})
			}
			if len(args) == 1 {
				return c.say(cmd.Context(), args[0])
			}
			return c.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "OpenAI base URL (default: OPENAI_BASE_URL, or the network in --dir)")
	cmd.Flags().StringVar(&model, "model", "", "model (default: the first one served)")
	cmd.Flags().StringVar(&system, "system", "", "system message")
	cmd.Flags().IntVar(&maxTokens, "max-tokens", 512, "longest answer, in tokens")
	return cmd
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type conversation struct {
	*app
	g         *gateway
	model     string
	maxTokens int
	messages  []message
}

// maxLine bounds a line of a conversation.
const maxLine = 1 << 20

func (c *conversation) run(ctx context.Context) error {
	person := terminal(c.env.Stderr) && terminal(asWriter(c.env.Stdin))
	lines := newLineReader(c.env.Stdin, maxLine)
	for {
		if person {
			fmt.Fprint(c.env.Stderr, "> ")
		}
		line, err := lines.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := c.say(ctx, line); err != nil {
			return err
		}
	}
}

// withoutControls keeps an answer from steering the terminal it is shown on.
func withoutControls(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

// say sends one message and prints the answer as it comes.
func (c *conversation) say(ctx context.Context, text string) error {
	c.messages = append(c.messages, message{"user", text})
	start := time.Now()
	resp, err := c.g.call(ctx, http.MethodPost, "/chat/completions", map[string]any{
		"model": c.model, "messages": c.messages, "stream": true, "max_tokens": c.maxTokens,
		"stream_options": map[string]any{"include_usage": true},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer strings.Builder
	var usage struct {
		CompletionTokens int        `json:"completion_tokens"`
		Cost             coins.Nano `json:"cost_nano"`
	}
	show := func(s string) string { return s }
	if terminal(c.env.Stdout) {
		show = withoutControls
	}
	events := openai.NewEventReader(resp.Body, 1<<20)
	done := false
	for !done {
		ev, err := events.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the answer broke off: %w", err)
		}
		if done = ev.IsDone(); done || ev.Data == nil {
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage json.RawMessage `json:"usage"`
			Error *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(ev.Data, &chunk); err != nil {
			return errors.New("the endpoint sent an event that is not JSON")
		}
		if chunk.Error != nil {
			fmt.Fprintln(c.env.Stdout)
			return errors.New(chunk.Error.Message)
		}
		for _, choice := range chunk.Choices {
			answer.WriteString(choice.Delta.Content)
			fmt.Fprint(c.env.Stdout, show(choice.Delta.Content))
		}
		if len(chunk.Usage) > 0 {
			_ = json.Unmarshal(chunk.Usage, &usage)
		}
	}
	fmt.Fprintln(c.env.Stdout)
	if !done {
		return errors.New("the answer ended early")
	}
	c.messages = append(c.messages, message{"assistant", answer.String()})
	if terminal(c.env.Stderr) {
		simulated := ""
		if c.g.simulated {
			simulated = " · SIMULATED"
		}
		fmt.Fprintf(c.env.Stderr, "[%s · %d tokens · %s · %.1f s%s]\n", c.model, usage.CompletionTokens, usage.Cost, time.Since(start).Seconds(), simulated)
	}
	return nil
}
