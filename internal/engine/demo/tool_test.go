//go:build !tee

package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const someTools = `,"tools":[
	{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"town":{"enum":["Bandung","Köln"]}},"required":["town"],"additionalProperties":false}}},
	{"type":"function","function":{"name":"now"}},
	{"type":"function","function":{"name":"say","parameters":{"type":"object","properties":{"text":{"type":"string","maxLength":12},"list":{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2}},"required":["text","list"],"additionalProperties":false}}}]`

type madeCall struct{ ID, Name, Arguments string }

// TestToolCalls: forced calls, one or several, whole and streamed, have the same
// names and the same valid arguments, each under its own index and id.
func TestToolCalls(t *testing.T) {
	t.Parallel()
	s := server(t, Config{})
	for _, c := range []struct {
		more string
		want string // names; "?" = one of those given
	}{
		{`,"tool_choice":"required"`, "?"},
		{`,"tool_choice":"required","parallel_tool_calls":false`, "?"},
		{`,"tool_choice":"required","parallel_tool_calls":true`, "weather now say"},
		{`,"tool_choice":{"type":"function","function":{"name":"say"}},"parallel_tool_calls":true`, "say"},
		{`,"tool_choice":"auto","parallel_tool_calls":true`, ""},
		{`,"tool_choice":"required","parallel_tool_calls":true,"n":2,"temperature":1.5,"seed":3`, "weather now say"},
	} {
		body := chatBody("Weather and time?", someTools+c.more)
		whole := ask(t, s, chatPath, body)
		calls := make([][]madeCall, len(whole.Choices))
		reasons := make([]string, len(calls))
		for _, e := range stream(t, s, chatPath, strings.TrimSuffix(body, "}")+`,"stream":true}`) {
			for _, ch := range e.Choices {
				for _, d := range ch.Delta.ToolCalls {
					if list := &calls[ch.Index]; d.Index == len(*list) && d.ID != "" && d.Type == "function" {
						*list = append(*list, madeCall{d.ID, d.Function.Name, d.Function.Arguments})
					} else if d.Index < len(*list) && d.ID == "" && d.Function.Name == "" {
						(*list)[d.Index].Arguments += d.Function.Arguments
					} else {
						t.Fatalf("%s: after %+v came %+v", c.more, *list, d)
					}
				}
				reasons[ch.Index] += ch.FinishReason
			}
		}
		for i, ch := range whole.Choices {
			reason := "tool_calls"
			if c.want == "" {
				reason = "stop"
			}
			if ch.FinishReason != reason || reasons[i] != reason {
				t.Errorf("%s: finish_reason %s whole, %s streamed; want %s", c.more, ch.FinishReason, reasons[i], reason)
			}
			var names []string
			ids := map[string]bool{}
			for j, call := range ch.Message.ToolCalls {
				names = append(names, call.Function.Name)
				ids[call.ID] = true
				if call.ID == "" || call.Type != "function" || !json.Valid([]byte(call.Function.Arguments)) || call.Function.Arguments[0] != '{' {
					t.Errorf("%s: %+v", c.more, call)
				}
				if j >= len(calls[i]) || calls[i][j].Name != call.Function.Name || calls[i][j].Arguments != call.Function.Arguments {
					t.Errorf("%s: streamed %+v, whole %+v", c.more, calls[i], ch.Message.ToolCalls)
				}
			}
			if got := strings.Join(names, " "); got != c.want && (c.want != "?" || len(names) != 1) || len(ids) != len(names) || len(calls[i]) != len(names) {
				t.Errorf("%s: %q, want %q", c.more, got, c.want)
			}
		}
	}
}

// TestToolCallsCut: what the limit leaves of calls is told, and never a call
// without a name.
func TestToolCallsCut(t *testing.T) {
	t.Parallel()
	s := server(t, Config{})
	most := 0
	for _, limit := range []int{1, 6, 12, 24, 40, 60, 90, 400} {
		c := ask(t, s, chatPath, chatBody("Weather and time?", someTools+fmt.Sprintf(`,"tool_choice":"required","parallel_tool_calls":true,"max_tokens":%d`, limit)))
		ch := c.Choices[0]
		for i, call := range ch.Message.ToolCalls {
			if want := []string{"weather", "now", "say"}[i]; call.Function.Name != want {
				t.Errorf("%d tokens: call %d is %q, want %q", limit, i, call.Function.Name, want)
			}
			if i+1 < len(ch.Message.ToolCalls) && !json.Valid([]byte(call.Function.Arguments)) {
				t.Errorf("%d tokens: call %d is broken though another follows: %s", limit, i, call.Function.Arguments)
			}
		}
		if most = max(most, len(ch.Message.ToolCalls)); ch.FinishReason == "tool_calls" {
			break
		}
		if ch.FinishReason != "length" {
			t.Errorf("%d tokens: finish_reason %s", limit, ch.FinishReason)
		}
	}
	if most != 3 {
		t.Errorf("at most %d calls were seen", most)
	}
}
