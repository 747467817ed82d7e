package up_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/sdk"
)

// TestSDK uses the network from a Go program: over its gateway, then with the
// client role inside this process, and under OpenAI's own library.
func TestSDK(t *testing.T) {
	n := up(t, t.TempDir())
	simulated := []attest.Kind{attest.Simulated}
	question := sdk.ChatRequest{Model: "cocoon-demo-1", Messages: []sdk.Message{{Role: "user", Content: "What is Cocoon?"}}}

	strict, err := sdk.Open(t.Context(), sdk.Config{Gateway: n.base + "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	var refused *sdk.Error
	if _, err := strict.Chat(t.Context(), question); !errors.As(err, &refused) || refused.Code != "seal_unavailable" {
		t.Errorf("a policy of real hardware is told %v", err)
	}

	over, err := sdk.Open(t.Context(), sdk.Config{Gateway: n.base + "/v1", Accept: simulated})
	if err != nil {
		t.Fatal(err)
	}
	useSDK(t, over, question)
	if _, err := over.Chat(t.Context(), sdk.ChatRequest{Model: "no-such", Messages: question.Messages}); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("an unknown model: %v", err)
	}

	// The same client, with the same wallet, in this process: `up` would start
	// its own again, so it is held.
	if err := syscall.Kill(n.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(n.cmd.Process.Pid, syscall.SIGCONT) }()
	n.kill("client")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	within, err := sdk.Open(ctx, sdk.Config{File: filepath.Join(n.dir, "client.toml"), Accept: simulated})
	if err != nil {
		t.Fatal(err)
	}
	useSDK(t, within, question)
	if err := within.Close(); err != nil {
		t.Error(err)
	}
	if _, err := within.Chat(t.Context(), question); err == nil {
		t.Error("a closed client answers")
	}
}

func useSDK(t *testing.T, c *sdk.Client, question sdk.ChatRequest) {
	t.Helper()
	whole, err := c.Chat(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(whole.Text, "private AI") || whole.Usage.CostNano == 0 || !whole.Proof.Sealed || whole.Proof.WorkerVerdict != "simulated" || !whole.Proof.Simulated {
		t.Errorf("%+v", whole)
	}
	var streamed strings.Builder
	pieces := 0
	for chunk, err := range c.Stream(t.Context(), question) {
		if err != nil {
			t.Fatal(err)
		}
		streamed.WriteString(chunk.Text)
		pieces++
	}
	if streamed.String() != whole.Text || pieces < 5 {
		t.Errorf("%d pieces: %q", pieces, streamed.String())
	}
	vectors, err := c.Embed(t.Context(), "cocoon-demo-embed-1", []string{"a cat", "a dog"})
	if err != nil || len(vectors) != 2 || len(vectors[0]) == 0 {
		t.Errorf("%d vectors, %v", len(vectors), err)
	}
	if names, err := c.Models(t.Context()); err != nil || len(names) < 2 {
		t.Errorf("models %v, %v", names, err)
	}
	var r *sdk.Receipt
	eventually(t, "receipt", func() bool {
		var refused *sdk.Error
		if r, err = c.Receipt(t.Context(), whole.Proof.Receipt); errors.As(err, &refused) && refused.Status == 404 {
			return false
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, check := range r.Checks {
		if check.Result == "pass" {
			passed++
		}
	}
	if passed < 2 {
		t.Errorf("checks of the receipt: %+v", r.Checks)
	}

	official := openai.NewClient(option.WithBaseURL(c.BaseURL()), option.WithHTTPClient(c.HTTPClient()), option.WithAPIKey("unused"), option.WithRequestTimeout(30*time.Second))
	a, err := official.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: question.Model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question.Messages[0].Content)}})
	if err != nil || a.Choices[0].Message.Content != whole.Text {
		t.Errorf("under the official library: %v, %v", a, err)
	}
}
