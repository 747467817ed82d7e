package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/node"
)

// Message is one message of a chat.
type Message struct {
	Role    string `json:"role"` // system, user, assistant
	Content string `json:"content"`
}

// ChatRequest asks for a chat completion. For what it does not have, put an
// OpenAI library over the Client.
type ChatRequest struct {
	Model       string    `json:"model"`
	Messages    []Message `json:"messages"`
	MaxTokens   int       `json:"max_tokens,omitempty"` // 0 = the gateway's limit
	Temperature *float64  `json:"temperature,omitempty"`
	Seed        *int64    `json:"seed,omitempty"`
}

// Usage counts tokens; CostNano is in nano.
type Usage struct {
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	TotalTokens      int64  `json:"total_tokens"`
	CostNano         uint64 `json:"cost_nano"`
}

// ChatAnswer is a whole answer.
type ChatAnswer struct {
	Text         string
	FinishReason string // stop, length
	Usage        Usage
	Proof        Proof
}

// Chat asks and waits for the whole answer.
func (c *Client) Chat(ctx context.Context, rq ChatRequest) (*ChatAnswer, error) {
	resp, err := c.do(ctx, http.MethodPost, "chat/completions", rq)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct {
		Choices []struct {
			Message      struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage Usage
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("cocoon: the answer cannot be read: %w", err)
	}
	if len(a.Choices) == 0 {
		return nil, errors.New("cocoon: the answer has no choices")
	}
	return &ChatAnswer{a.Choices[0].Message.Content, a.Choices[0].FinishReason, a.Usage, ProofOf(resp)}, nil
}

// Chunk is a piece of a streamed answer. The last one has FinishReason, and
// then one comes with Usage.
type Chunk struct {
	Text         string
	FinishReason string
	Usage        *Usage
	Proof        Proof
}

// Stream asks and yields the answer as it is made. An error ends it: an answer
// without one is whole. Leaving the loop stops the engine.
func (c *Client) Stream(ctx context.Context, rq ChatRequest) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		resp, err := c.do(ctx, http.MethodPost, "chat/completions", struct {
			ChatRequest
			Stream        bool            `json:"stream"`
			StreamOptions map[string]bool `json:"stream_options"`
		}{rq, true, map[string]bool{"include_usage": true}})
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		defer resp.Body.Close()
		proof := ProofOf(resp)
		lines := bufio.NewReader(resp.Body)
		for {
			line, err := lines.ReadBytes('\n')
			if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: ")); ok {
				if string(data) == "[DONE]" {
					return
				}
				chunk, cerr := parseChunk(data)
				chunk.Proof = proof
				if !yield(chunk, cerr) || cerr != nil {
					return
				}
			}
			if err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				yield(Chunk{}, fmt.Errorf("cocoon: the answer was cut: %w", err))
				return
			}
		}
	}
}

func parseChunk(data []byte) (Chunk, error) {
	var v struct {
		Error   *struct{ Message, Code string }
		Choices []struct {
			Delta        struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage *Usage
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return Chunk{}, fmt.Errorf("cocoon: a part of the answer cannot be read: %w", err)
	}
	if v.Error != nil {
		return Chunk{}, &Error{Status: http.StatusOK, Code: v.Error.Code, Message: v.Error.Message}
	}
	out := Chunk{Usage: v.Usage}
	if len(v.Choices) > 0 {
		out.Text, out.FinishReason = v.Choices[0].Delta.Content, v.Choices[0].FinishReason
	}
	return out, nil
}

// Embed returns a vector for each text.
func (c *Client) Embed(ctx context.Context, model string, texts []string) ([][]float32, error) {
	resp, err := c.do(ctx, http.MethodPost, "embeddings", map[string]any{"model": model, "input": texts})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct {
		Data []struct {
			Index     int
			Embedding []float32
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("cocoon: the answer cannot be read: %w", err)
	}
	out := make([][]float32, len(texts))
	for _, d := range a.Data {
		if d.Index < 0 || d.Index >= len(out) {
			return nil, errors.New("cocoon: the answer has embeddings of texts that were not sent")
		}
		out[d.Index] = d.Embedding
	}
	for i, v := range out {
		if v == nil {
			return nil, fmt.Errorf("cocoon: the answer has no embedding of text %d", i)
		}
	}
	return out, nil
}

// Models lists what is served now.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	resp, err := c.do(ctx, http.MethodGet, "models", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("cocoon: the list of models cannot be read: %w", err)
	}
	var names []string
	for _, m := range a.Data {
		names = append(names, m.ID)
	}
	return names, nil
}

// Receipt is the receipt of one request, verified.
type Receipt struct {
	ID string
	// Checks are what was checked of the signed parts, and what was not.
	Checks []Check
	// Raw is the receipt as the client keeps it; `cocoon receipt export` adds
	// its place in the proxy's log and on chain.
	Raw json.RawMessage
}

// Check is one line of a verification.
type Check struct{ Name, Result, Detail string }

// Receipt fetches a receipt by the id in Proof and verifies what can be
// verified without a network. Receipts come some moments after answers: until
// then the error is an *Error with status 404.
func (c *Client) Receipt(ctx context.Context, id string) (*Receipt, error) {
	resp, err := c.do(ctx, http.MethodGet, "receipts/"+id, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var kept audit.Kept
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, fmt.Errorf("cocoon: the receipt cannot be read: %w", err)
	}
	if kept.RequestID.String() != id {
		return nil, fmt.Errorf("%w: the receipt is another request's", ErrNotVerified)
	}
	card := node.ShowReceipt(kept)
	r := &Receipt{ID: id, Raw: raw}
	for _, f := range card.Factors {
		r.Checks = append(r.Checks, Check{f.Name, fmt.Sprint(f.Result), f.Detail})
	}
	if failed := card.Failed(); failed != nil {
		return nil, fmt.Errorf("%w: %s of the receipt: %s", ErrNotVerified, failed.Name, failed.Detail)
	}
	return r, nil
}
