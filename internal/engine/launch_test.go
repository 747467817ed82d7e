package engine_test

import (
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestPlans: each make is started on loopback, counts usage, and keeps quiet.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		name   string
		launch engine.Launch
		have   []string
	}{
		{"vllm", engine.Launch{Model: "Qwen/Qwen3-8B", Path: "/model", GPUs: 2, Parallel: 64, Context: 32768}, []string{
			"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1", "vllm serve /model", "--served-model-name Qwen/Qwen3-8B", "--host 127.0.0.1", "--port 8000",
			"--enable-prompt-tokens-details", "--enable-force-include-usage", "--no-enable-log-requests", "--disable-uvicorn-access-log",
			"--tensor-parallel-size 2", "--max-num-seqs 64", "--max-model-len 32768", "--enable-auto-tool-choice", "--tool-call-parser hermes"}},
		{"vllm", engine.Launch{Model: "m", Path: "/m", Image: "vllm/vllm-openai" + digest, Port: 8001, ToolParser: "llama3_json", ReasoningParser: "qwen3"}, []string{
			"docker run --rm", "--network host", "--cgroup-parent cocoon-engine.slice", "src=/m,dst=/model,readonly", "--entrypoint vllm vllm/vllm-openai" + digest + " serve /model", "--port 8001",
			"--tool-call-parser llama3_json", "--reasoning-parser qwen3"}},
		{"sglang", engine.Launch{Model: "deepseek-v3", Path: "/srv/m"}, []string{
			"lmsysorg/sglang:v0.5.10.post1-cu130-runtime@sha256:715c461258624eae38124dcb1e1f620cbe307594fd3403ab92caf1b7017afd0f",
			"--model-path /model", "--host 127.0.0.1", "--port 30000", "--enable-metrics", "--enable-cache-report", "--tp-size 1", "--tool-call-parser deepseekv3", "--log-level-http warning"}},
		{"llama.cpp", engine.Launch{Model: "m", Path: "/my models/m's.gguf", Context: 4096, Parallel: 8}, []string{
			`llama-server`, `-m '/my models/m'\''s.gguf'`, "--alias m", "--host 127.0.0.1", "--port 8080", "--metrics", "--jinja", "--no-slots", "--offline", "-np 8", "-c 32768"}},
		{"Ollama", engine.Launch{Model: "m", Path: "/m.gguf", Context: 2048}, []string{
			"OLLAMA_HOST=127.0.0.1:11434", "OLLAMA_NUM_PARALLEL=4", "OLLAMA_CONTEXT_LENGTH=2048", "OLLAMA_DEBUG=0", "ollama serve"}},
	} {
		k, err := engine.Make(c.name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.Plan(c.launch)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		shell := p.Shell()
		flat := strings.ReplaceAll(shell, " \\\n ", "")
		units := p.Units()
		for _, part := range c.have {
			if !strings.Contains(flat, part) {
				t.Errorf("%s: no %q in\n%s", c.name, part, shell)
			}
		}
		for _, bad := range []string{"0.0.0.0", ":latest", "\t"} {
			if strings.Contains(shell, bad) || strings.Contains(units[1].Text, bad) {
				t.Errorf("%s: %q in\n%s%s", c.name, bad, shell, units[1].Text)
			}
		}
		if len(units) != 2 || !strings.Contains(units[0].Text, "IPAddressDeny=any\nIPAddressAllow=localhost") || !strings.Contains(units[1].Text, "Slice=cocoon-engine.slice") || !strings.Contains(units[1].Text, "LimitCORE=0") {
			t.Errorf("%s: %+v", c.name, units)
		}
		if !strings.HasPrefix(p.URL, "http://127.0.0.1:") {
			t.Error(p.URL)
		}
	}
}

func TestUnitWords(t *testing.T) {
	k, err := engine.Make("llamacpp")
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Plan(engine.Launch{Model: "m", Path: `/a "b" $c %d/m.gguf`})
	if err != nil {
		t.Fatal(err)
	}
	if text := p.Units()[1].Text; !strings.Contains(text, "ExecStart=/usr/bin/env llama-server \\\n") || !strings.Contains(text, `"/a \"b\" $$c %%d/m.gguf"`) {
		t.Error(text)
	}
}

func TestPlansRefused(t *testing.T) {
	ok := engine.Launch{Model: "m", Path: "/m"}
	for name, c := range map[string]struct {
		make   string
		change func(*engine.Launch)
	}{
		"no model":        {"vllm", func(l *engine.Launch) { l.Model = "" }},
		"full name":       {"vllm", func(l *engine.Launch) { l.Model = "m@c:d" }},
		"model as flag":   {"vllm", func(l *engine.Launch) { l.Model = "--host" }},
		"two lines":       {"vllm", func(l *engine.Launch) { l.Model = "m\nExecStart=x" }},
		"relative path":   {"vllm", func(l *engine.Launch) { l.Path = "m" }},
		"path of two":     {"vllm", func(l *engine.Launch) { l.Path = "/a\n/b" }},
		"folder":          {"llama.cpp", func(l *engine.Launch) {}},
		"port":            {"vllm", func(l *engine.Launch) { l.Port = 70000 }},
		"negative":        {"vllm", func(l *engine.Launch) { l.GPUs = -1 }},
		"image by tag":    {"vllm", func(l *engine.Launch) { l.Image = "vllm/vllm-openai:latest" }},
		"image as flag":   {"vllm", func(l *engine.Launch) { l.Image = "--privileged" + digest }},
		"other host":      {"vllm", func(l *engine.Launch) { l.Extra = []string{"--host=0.0.0.0"} }},
		"request log":     {"sglang", func(l *engine.Launch) { l.Extra = []string{"--log-requests"} }},
		"set twice":       {"sglang", func(l *engine.Launch) { l.Extra = []string{"--tp-size", "2"} }},
		"ollama image":    {"ollama", func(l *engine.Launch) { l.Image = "ollama/ollama" + digest }},
		"ollama argument": {"ollama", func(l *engine.Launch) { l.Extra = []string{"x"} }},
	} {
		k, err := engine.Make(c.make)
		if err != nil {
			t.Fatal(err)
		}
		l := ok
		c.change(&l)
		if p, err := k.Plan(l); err == nil {
			t.Errorf("%s: %s", name, p.Shell())
		}
	}
	if _, err := engine.Make("tgi"); err == nil || !strings.Contains(err.Error(), "llama.cpp") {
		t.Error(err)
	}
	k, _ := engine.Make("sglang")
	ok.Image, ok.Extra = "none", []string{"--trust-remote-code"}
	if p, err := k.Plan(ok); err != nil || !strings.HasPrefix(p.Shell(), "DO_NOT_TRACK=1") || !strings.Contains(p.Shell(), "--trust-remote-code") || len(p.Notes) != 1 {
		t.Errorf("%+v %v", p, err)
	}
}
