package engine

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Known is a make of engine that can be set up.
type Known struct {
	Dialect Dialect
	Name    string // as its makers write it
	Command string // what it is started with
	Port    int    // where it listens if nobody says otherwise
	Image   string // container image by digest, "" = none is known
	Sign    string // what it is known by
}

// known lists the makes in the order Auto prefers them.
var known = []Known{
	{VLLM, "vLLM", "vllm serve", 8000, "", `models owned by "vllm", or metrics that begin with vllm:`},
	{SGLang, "SGLang", "python3 -m sglang.launch_server", 30000,
		"lmsysorg/sglang:v0.5.10.post1-cu130-runtime@sha256:715c461258624eae38124dcb1e1f620cbe307594fd3403ab92caf1b7017afd0f",
		`models owned by "sglang", or /get_model_info`},
	{LlamaCpp, "llama.cpp", "llama-server", 8080, "", `models owned by "llamacpp", or /props`},
	{Ollama, "Ollama", "ollama serve", 11434, "", `"Ollama is running" at /`},
}

// Makes returns the makes of engine that can be set up.
func Makes() []Known { return append([]Known(nil), known...) }

// BaseURL is where the engine listens if nobody says otherwise.
func (k Known) BaseURL() string { return "http://127.0.0.1:" + strconv.Itoa(k.Port) }

// Make returns the make called name, such as vllm or llama.cpp.
func Make(name string) (Known, error) {
	names := make([]string, 0, len(known))
	for _, k := range known {
		if strings.EqualFold(name, k.Name) || strings.EqualFold(name, string(k.Dialect)) {
			return k, nil
		}
		names = append(names, strings.ToLower(k.Name))
	}
	return Known{}, fmt.Errorf("no engine is called %q; there are %s", name, strings.Join(names, ", "))
}

// Launch is what the owner of a machine decides about an engine.
type Launch struct {
	// Model is the name the engine serves: the base name of the full one.
	Model string
	// Path is the folder or file of the weights, absolute.
	Path string
	// Port on loopback; 0 = the usual one.
	Port int
	// GPUs is how many one model is spread over; 0 = 1. Not for Ollama and
	// llama.cpp, which take what is there.
	GPUs int
	// Parallel is how many requests run at once; 0 = the engine decides, and
	// 4 for llama.cpp and Ollama, which must be told.
	Parallel int
	// Context is the longest request in tokens; 0 = the model's.
	Context int
	// ToolParser and ReasoningParser name the model's formats; "" = by the
	// model's name where it tells the format of tool calls, else none.
	ToolParser, ReasoningParser string
	// Image is the container image, name@sha256:digest; "" = the known one,
	// "none" = the program of this machine.
	Image string
	// Extra arguments for the engine, as they are.
	Extra []string
}

// Plan is how to start an engine.
type Plan struct {
	Make  Known
	Env   []string // NAME=value
	Args  []string // the command and its arguments
	Image string   // container image, "" = a program of this machine
	URL   string   // where the engine will listen
	Notes []string // what the command alone does not do
	path  string   // the weights on this machine
}

const defaultParallel = 4

// inContainer is where a container sees the weights.
const inContainer = "/model"

var byDigest = regexp.MustCompile(`^[a-zA-Z0-9][\w./:-]*@sha256:[0-9a-f]{64}$`)

// Plan turns decisions into a command. The engine listens on loopback only,
// counts usage in every answer, and keeps requests out of its logs.
func (k Known) Plan(l Launch) (*Plan, error) {
	switch {
	case l.Model == "" || strings.ContainsFunc(l.Model, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.HasPrefix(l.Model, "-"):
		return nil, fmt.Errorf("model %q: a name without spaces that does not begin with '-' is needed", l.Model)
	case strings.Contains(l.Model, "@"):
		return nil, fmt.Errorf("model %q: the engine serves the base name, the part before '@'", l.Model)
	case !filepath.IsAbs(l.Path) || strings.ContainsFunc(l.Path, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }):
		return nil, fmt.Errorf("path %q: an absolute path without ':' and control characters is needed", l.Path)
	case k.Dialect == LlamaCpp && !strings.EqualFold(filepath.Ext(l.Path), ".gguf"):
		return nil, fmt.Errorf("path %q: %s loads one file, .gguf; of a model in parts, name the first", l.Path, k.Name)
	case l.Port < 0 || l.Port > 65535:
		return nil, fmt.Errorf("port %d does not exist", l.Port)
	case l.GPUs < 0 || l.Parallel < 0 || l.Context < 0:
		return nil, errors.New("numbers of GPUs, requests and tokens cannot be negative")
	}
	if l.Port == 0 {
		l.Port = k.Port
	}
	if l.GPUs == 0 {
		l.GPUs = 1
	}
	p := &Plan{Make: k, path: l.Path, URL: "http://127.0.0.1:" + strconv.Itoa(l.Port)}
	switch l.Image {
	case "":
		p.Image = k.Image
	case "none":
	default:
		if !byDigest.MatchString(l.Image) {
			return nil, fmt.Errorf("image %q: name it by digest, name@sha256:…: a tag can be moved, and then nobody knows what ran", l.Image)
		}
		p.Image = l.Image
	}
	model := l.Path
	if p.Image != "" {
		model = inContainer
		if k.Dialect == LlamaCpp {
			model = path.Join(inContainer, filepath.Base(l.Path))
		}
	}
	switch k.Dialect {
	case VLLM:
		p.vllm(l, model)
	case SGLang:
		p.sglang(l, model)
	case LlamaCpp:
		p.llama(l, model)
	case Ollama:
		if p.Image != "" {
			return nil, errors.New("ollama keeps its models itself: it is started without a container here")
		}
		p.ollama(l)
	default:
		return nil, fmt.Errorf("%s cannot be set up", k.Name)
	}
	if len(l.Extra) > 0 && k.Dialect == Ollama {
		return nil, errors.New("ollama serve takes no arguments")
	}
	for _, e := range l.Extra {
		flag, _, _ := strings.Cut(e, "=")
		if reserved[flag] {
			return nil, fmt.Errorf("%s is not to be set by hand: it would open the engine to others or log requests", flag)
		}
		for _, a := range p.Args {
			if strings.HasPrefix(flag, "-") && a == flag {
				return nil, fmt.Errorf("%s is set already", flag)
			}
		}
	}
	p.Args = append(p.Args, l.Extra...)
	return p, nil
}

// reserved are arguments that undo what a plan is for.
var reserved = map[string]bool{
	"--host": true, "--uds": true, "--port": true, "--served-model-name": true, "--alias": true,
	"--enable-log-requests": true, "--no-disable-log-requests": true, "--enable-log-outputs": true, "--log-requests": true, "--log-prompts-dir": true,
	"--crash-dump-folder": true, "-v": true, "--verbose": true, "--log-verbose": true, "--slots": true,
}

// offline keeps libraries of models from calling home.
var offline = []string{"DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "TRANSFORMERS_OFFLINE=1"}

func (p *Plan) arg(args ...string) { p.Args = append(p.Args, args...) }

func (p *Plan) number(flag string, n int) {
	if n > 0 {
		p.arg(flag, strconv.Itoa(n))
	}
}

func (p *Plan) vllm(l Launch, model string) {
	p.Env = append([]string{"VLLM_NO_USAGE_STATS=1"}, offline...)
	p.arg("vllm", "serve", model, "--served-model-name", l.Model, "--host", "127.0.0.1", "--port", strconv.Itoa(l.Port),
		"--enable-prompt-tokens-details", "--enable-force-include-usage", "--no-enable-log-requests", "--disable-uvicorn-access-log",
		"--tensor-parallel-size", strconv.Itoa(l.GPUs))
	p.number("--max-num-seqs", l.Parallel)
	p.number("--max-model-len", l.Context)
	if parser := p.tools(l, "hermes", "deepseek_v3"); parser != "" {
		p.arg("--enable-auto-tool-choice", "--tool-call-parser", parser)
	}
	if l.ReasoningParser != "" {
		p.arg("--reasoning-parser", l.ReasoningParser)
	}
}

func (p *Plan) sglang(l Launch, model string) {
	p.Env = append([]string(nil), offline...)
	p.arg("python3", "-m", "sglang.launch_server", "--model-path", model, "--served-model-name", l.Model, "--host", "127.0.0.1", "--port", strconv.Itoa(l.Port),
		"--enable-metrics", "--enable-cache-report", "--log-level-http", "warning", "--tp-size", strconv.Itoa(l.GPUs))
	p.number("--max-running-requests", l.Parallel)
	p.number("--context-length", l.Context)
	if parser := p.tools(l, "qwen25", "deepseekv3"); parser != "" {
		p.arg("--tool-call-parser", parser)
	}
	if l.ReasoningParser != "" {
		p.arg("--reasoning-parser", l.ReasoningParser)
	}
}

// tools chooses the parser of tool calls.
func (p *Plan) tools(l Launch, qwen, deepseek string) string {
	name := strings.ToLower(l.Model)
	switch {
	case l.ToolParser != "":
		return l.ToolParser
	case strings.Contains(name, "qwen"):
		return qwen
	case strings.Contains(name, "deepseek-v3"):
		return deepseek
	}
	p.Notes = append(p.Notes, "tool calls are off: name the model's format with --tool-parser")
	return ""
}

func (p *Plan) llama(l Launch, model string) {
	if l.Parallel == 0 {
		l.Parallel = defaultParallel
	}
	program := "llama-server"
	if p.Image != "" {
		program = "/app/llama-server"
	}
	p.arg(program, "-m", model, "--alias", l.Model, "--host", "127.0.0.1", "--port", strconv.Itoa(l.Port),
		"--metrics", "--jinja", "--no-slots", "--offline", "-np", strconv.Itoa(l.Parallel))
	// The context is shared by all requests.
	p.number("-c", l.Context*l.Parallel)
	if l.Context == 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("the model's context is shared by %d requests: set --context for each request's own", l.Parallel))
	}
}

func (p *Plan) ollama(l Launch) {
	if l.Parallel == 0 {
		l.Parallel = defaultParallel
	}
	p.Env = []string{"DO_NOT_TRACK=1", "OLLAMA_HOST=127.0.0.1:" + strconv.Itoa(l.Port), "OLLAMA_NUM_PARALLEL=" + strconv.Itoa(l.Parallel),
		"OLLAMA_MAX_LOADED_MODELS=1", "OLLAMA_KEEP_ALIVE=-1", "OLLAMA_DEBUG=0"}
	if l.Context > 0 {
		p.Env = append(p.Env, "OLLAMA_CONTEXT_LENGTH="+strconv.Itoa(l.Context))
	}
	p.arg("ollama", "serve")
	p.Notes = append(p.Notes,
		fmt.Sprintf("once it runs, give it the model: printf 'FROM %%s\\n' %s > Modelfile && OLLAMA_HOST=127.0.0.1:%d ollama create %s -f Modelfile", quote(l.Path), l.Port, quote(l.Model)),
		"Ollama reports neither load nor cached tokens: the worker counts for itself, and cached tokens cost as others")
}

// argv is the command with its environment, in a container or not.
func (p *Plan) argv() (env, args []string) {
	if p.Image == "" {
		return p.Env, p.Args
	}
	mount := p.path
	if p.Make.Dialect == LlamaCpp {
		mount = filepath.Dir(p.path)
	}
	args = []string{"docker", "run", "--rm", "--name", p.unitName(), "--network", "host", "--ipc", "host", "--gpus", "all",
		"--cgroup-parent", sliceName, "--log-driver", "none", "--ulimit", "core=0", "--mount", "type=bind,src=" + mount + ",dst=" + inContainer + ",readonly"}
	for _, e := range p.Env {
		args = append(args, "--env", e)
	}
	args = append(args, "--entrypoint", p.Args[0], p.Image)
	return nil, append(args, p.Args[1:]...)
}

const sliceName = "cocoon-engine.slice"

func (p *Plan) unitName() string { return "cocoon-engine-" + string(p.Make.Dialect) }

// Shell is a command line for a POSIX shell.
func (p *Plan) Shell() string {
	env, args := p.argv()
	words := make([]string, 0, len(env)+len(args))
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		words = append(words, name+"="+quote(value))
	}
	for _, a := range args {
		words = append(words, quote(a))
	}
	return fold(words) + "\n"
}

// File is a file to write.
type File struct{ Path, Text string }

// Units are the files for systemd: the service and the slice that keeps the
// engine and its containers off every network but loopback.
func (p *Plan) Units() []File {
	env, args := p.argv()
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=%s for Cocoon\nAfter=network.target", p.Make.Name)
	if p.Image != "" {
		b.WriteString(" docker.service\nRequires=docker.service")
	}
	b.WriteString("\n\n[Service]\nSlice=" + sliceName + "\n")
	for _, e := range env {
		fmt.Fprintf(&b, "Environment=%s\n", unitWord(e))
	}
	words := make([]string, 0, len(args)+1)
	for i, a := range args {
		if i == 0 && !strings.Contains(a, "/") {
			words = append(words, "/usr/bin/env")
		}
		words = append(words, unitWord(a))
	}
	fmt.Fprintf(&b, "ExecStart=%s\n", fold(words))
	if p.Image != "" {
		fmt.Fprintf(&b, "ExecStop=/usr/bin/env docker stop %s\n", p.unitName())
	} else {
		b.WriteString("DynamicUser=yes\nStateDirectory=" + p.unitName() + "\nEnvironment=HOME=%S/" + p.unitName() + "\nNoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=yes\n")
	}
	b.WriteString("LimitCORE=0\nTimeoutStartSec=2h\nRestart=always\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n")
	return []File{
		{"/etc/systemd/system/" + sliceName, "[Unit]\nDescription=Engines of Cocoon, without a network\n\n[Slice]\nIPAddressDeny=any\nIPAddressAllow=localhost\n"},
		{"/etc/systemd/system/" + p.unitName() + ".service", b.String()},
	}
}

// fold puts long commands on several lines, an option a line.
func fold(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case strings.HasPrefix(w, "-") || strings.Contains(words[i-1], "=") && !strings.HasPrefix(words[i-1], "-"):
			b.WriteString(" \\\n  ")
		default:
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	return b.String()
}

var safe = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// quote makes one word of a POSIX shell.
func quote(s string) string {
	if safe.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// unitWord makes one word of a systemd command line: '%' and '$' are its own.
func unitWord(s string) string {
	s = strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	if safe.MatchString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
