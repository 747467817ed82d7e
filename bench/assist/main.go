// Command assist evaluates the messaging tasks on a model: own sentences in
// four languages, deterministic metrics, one table. See
// docs/assist-evaluation.md.
//
//	go run ./assist --base http://127.0.0.1:10000/v1
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "assist:", err)
		stop()
		os.Exit(1)
	}
}

const usage = `Evaluate the messaging tasks on a model behind an OpenAI endpoint.

  go run ./assist --demo
  go run ./assist --base http://127.0.0.1:10000/v1 --model NAME --json report.json --export outputs/

An API key is read from the environment variable OPENAI_API_KEY.

`

func command(ctx context.Context, args []string, out, notes io.Writer) error {
	f := flag.NewFlagSet("assist", flag.ContinueOnError)
	f.SetOutput(out)
	base := f.String("base", "", "address of the endpoint, ending in /v1")
	own := f.Bool("demo", false, "evaluate the demo engine, inside this process")
	model := f.String("model", "", "model to ask (default: the first one listed)")
	embedModel := f.String("embed-model", "", "model for embeddings (default: the one listed, if there is one)")
	small := f.Bool("small", false, "the short prompts of very small models (default: by the model's name)")
	tasks := f.String("tasks", strings.Join(taskNames, ","), "what to do")
	parallel := f.Int("parallel", 4, "items at one time; 1 for times that count")
	every := f.Int("every", 1, "take each n-th item only")
	timeout := f.Duration("timeout", 5*time.Minute, "of one request")
	jsonFile := f.String("json", "", "write the report to this file; - for standard output in place of the table")
	exportDir := f.String("export", "", "write outputs to this folder, for COMET and BERTScore")
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected %q: see --help", f.Arg(0))
	}
	if (*base == "") != *own {
		return errors.New("say --base URL or --demo: see --help")
	}
	list := strings.Split(*tasks, ",")
	for _, t := range list {
		if !slices.Contains(taskNames, t) {
			return fmt.Errorf("unknown task %q: there are %s", t, strings.Join(taskNames, ", "))
		}
	}
	endpoint := &assist.Endpoint{Base: *base, Model: *model, EmbedModel: *embedModel, APIKey: os.Getenv("OPENAI_API_KEY"), HTTP: &http.Client{Timeout: *timeout}}
	if *own {
		s, err := demo.New(demo.Config{})
		if err != nil {
			return err
		}
		endpoint.Base, endpoint.HTTP.Transport = "http://demo/v1", s.Transport()
	}
	// One call tells which model answers, and that one does.
	hello, err := endpoint.Complete(ctx, &assist.Call{Prompt: "hello@1", System: "Answer briefly.", User: "Hello", MaxTokens: 8})
	if err != nil {
		return err
	}
	name := hello.Proof.Model
	endpoint.Model = name
	e := &evaluation{model: endpoint, small: *small || assist.IsSmall(name), parallel: *parallel, every: *every}
	if *exportDir != "" {
		e.exports = map[string][]Output{}
	}
	report := Report{Model: name, Small: e.small, When: time.Now().UTC().Truncate(time.Second)}
	for _, task := range list {
		start := time.Now()
		t, err := e.run(ctx, task)
		if err != nil {
			return fmt.Errorf("%s: %w", task, err)
		}
		fmt.Fprintf(notes, "%s: %d items in %v\n", task, t.Items, time.Since(start).Round(100*time.Millisecond))
		report.Tasks = append(report.Tasks, t)
	}
	for task, outputs := range e.exports {
		if err := os.MkdirAll(*exportDir, 0o755); err != nil {
			return err
		}
		if err := writeJSON(filepath.Join(*exportDir, task+".json"), outputs); err != nil {
			return err
		}
	}
	switch *jsonFile {
	case "-":
		return encode(out, report)
	default:
		if err := writeJSON(*jsonFile, report); err != nil {
			return err
		}
		fallthrough
	case "":
		return report.print(out)
	}
}

func writeJSON(path string, v any) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(encode(f, v), f.Close())
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(v)
}

// print writes the report as two Markdown tables.
func (r *Report) print(out io.Writer) error {
	prompts := "full prompts"
	if r.Small {
		prompts = "short prompts"
	}
	fmt.Fprintf(out, "Model %s, %s, %s\n\n", r.Model, prompts, r.When.Format(time.DateOnly))
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	row := func(cells ...string) { fmt.Fprintf(w, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	row("task", "items", "failed", "fell back", "calls", "valid at first", "after repair", "first token ms p50/p95", "total ms p50/p95", "tokens in/out", "GRAM per 1,000 calls")
	row(slices.Repeat([]string{"---"}, 11)...)
	for _, t := range r.Tasks {
		if t.Skipped != "" {
			row(t.Task, "skipped", "", "", "", "", "", "", "", "", "")
			continue
		}
		first, last, cost, ttft := "-", "-", "-", "-"
		if t.Asked > 0 {
			first, last = percent(t.ValidFirst, t.Asked), percent(t.ValidLast, t.Asked)
		}
		if t.NanoPer1000 > 0 {
			cost = coins.Nano(t.NanoPer1000).String()
		}
		if t.FirstP50 > 0 {
			ttft = fmt.Sprintf("%.0f / %.0f", t.FirstP50, t.FirstP95)
		}
		row(t.Task, fmt.Sprint(t.Items), fmt.Sprint(t.Failed), fmt.Sprint(t.Fallbacks), fmt.Sprint(t.Calls), first, last, ttft,
			fmt.Sprintf("%.0f / %.0f", t.TotalP50, t.TotalP95), fmt.Sprintf("%d / %d", t.TokensIn, t.TokensOut), cost)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	row("task", "metric", "value", "over")
	row(slices.Repeat([]string{"---"}, 4)...)
	for _, t := range r.Tasks {
		for _, s := range t.Scores {
			value := "-"
			if s.N > 0 {
				value = fmt.Sprintf("%.3g", s.Value)
				if s.Value >= 99.95 {
					value = fmt.Sprintf("%.0f", s.Value)
				}
			}
			row(t.Task, s.Name, value, fmt.Sprint(s.N))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range r.Tasks {
		if t.Skipped != "" {
			fmt.Fprintf(out, "\n%s: %s\n", t.Task, t.Skipped)
		}
		if t.Failed > 0 {
			fmt.Fprintf(out, "\n%s: %d of %d failed, the first with: %s\n", t.Task, t.Failed, t.Items, t.Error)
		}
	}
	return nil
}

func percent(n, of int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of)) }
