// Command train makes the weights of cocoon-demo-1 from nothing: it writes its
// own corpus, learns a tokenizer, trains a small llama-shaped transformer and
// stores it as GGUF. Everything follows from the seed; only the standard
// library is used. See README.md for the recipe and REPORT.md for what came
// out.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

var shape = Shape{Vocab: 2048, Dim: 128, Layers: 6, Heads: 4, KVHeads: 2, FF: 352, Context: 1024, RopeBase: 10000, Eps: 1e-5}

func main() {
	log.SetFlags(log.Ltime)
	if err := mainErr(os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func mainErr(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("train", flag.ContinueOnError)
	dir := fs.String("dir", "run", "folder of checkpoint and model.gguf")
	steps := fs.Int("steps", 1500, "steps of this run")
	halt := fs.Int("halt", 0, "stop after this many steps of the schedule; 0 = all")
	batch := fs.Int("batch", 3072, "tokens a step")
	peak := fs.Float64("lr", 3e-3, "peak learning rate")
	seed := fs.Uint64("seed", 1, "seed of corpus order; weights use it only when there is no -from")
	stage := fs.Int("stage", 1, "mix of the corpus: 1 all alike, 2 more of what must be copied")
	from := fs.String("from", "", "checkpoint to start from, for a second run")
	what := fs.String("do", "train", "train, eval or corpus")
	n := fs.Int("n", 40, "corpus: examples to print; eval: examples a class")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *stage != 1 && *stage != 2 {
		return fmt.Errorf("unknown -stage %d: want 1 or 2", *stage)
	}
	switch *what {
	case "corpus":
		g := newGen(*seed)
		for range *n {
			e := g.next()
			fmt.Fprintf(out, "%s system=%q turns=%q text=%q\n", e.Class, e.System, e.Turns, e.Text)
		}
		return nil
	case "eval":
		m, _, err := load(filepath.Join(*dir, "checkpoint"))
		if err != nil {
			return err
		}
		return evaluate(out, m, tokenizer(), *n)
	case "train":
		return training{*dir, *from, *steps, *halt, *batch, *peak, *seed, *stage - 1}.train()
	}
	return fmt.Errorf("unknown -do %q: want train, eval or corpus", *what)
}

// tokenizer learns the merges from a fixed sample, so that every run has the
// same.
func tokenizer() *Tokenizer {
	g := newGen(1000)
	counts := map[string]int{}
	for range 40000 {
		e := g.next()
		texts := []string{e.Text, e.System, "system\n", "user\n", "assistant\n"}
		for _, u := range e.Turns {
			texts = append(texts, u.User, u.Answer)
		}
		for _, s := range texts {
			for _, w := range splitWords(s) {
				counts[w]++
			}
		}
	}
	for w, c := range counts {
		if c < 4 {
			delete(counts, w)
		}
	}
	return trainBPE(counts, shape.Vocab)
}

// training is one run. Its schedule is a warm-up of 100 steps and a cosine
// over steps, of which halt are done.
type training struct {
	dir, from          string
	steps, halt, batch int
	peak               float64
	seed               uint64
	stage              int
}

func (r training) train() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	tok := tokenizer()
	if tok.Size() != shape.Vocab {
		return fmt.Errorf("the corpus gives %d tokens, want %d", tok.Size(), shape.Vocab)
	}
	m := NewModel(shape, rand.New(rand.NewPCG(r.seed, 2)))
	if r.from != "" {
		var err error
		if m, _, err = load(r.from); err != nil {
			return err
		}
	}
	log.Printf("%d parameters, %d tokens in the vocabulary, vector kernels %v", m.Count(), tok.Size(), vectorised)
	g := newGen(r.seed)
	g.stage = r.stage
	workers := [2]*Worker{NewWorker(m), NewWorker(m)}
	start, tokens := time.Now(), 0
	var smooth float64
	last := r.steps
	if r.halt > 0 {
		last = min(last, r.halt)
	}
	for step := range last {
		lr := r.peak * min(1, float64(step+1)/100) * (0.02 + 0.98*0.5*(1+math.Cos(math.Pi*float64(step)/float64(r.steps))))
		var shards [2][]Seq
		var size [2]int
		var norm float32
		for size[0]+size[1] < r.batch {
			e := g.next()
			if e.Held() {
				continue
			}
			s := tok.Sequence(&e)
			if len(s.Tokens) > 512 {
				continue
			}
			i := 0
			if size[1] < size[0] {
				i = 1
			}
			shards[i] = append(shards[i], s)
			size[i] += len(s.Tokens)
			for _, w := range s.Weight {
				norm += w
			}
		}
		var losses [2]float64
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() {
				for _, g := range workers[i].Grad {
					clear(g)
				}
				workers[i].Forward(shards[i])
				losses[i] = workers[i].Backward(shards[i], norm)
			})
		}
		wg.Wait()
		gn := adam(m, workers[0].Grad, workers[1].Grad, step+1, lr)
		loss := (losses[0] + losses[1]) / float64(norm)
		if step == 0 {
			smooth = loss
		}
		smooth += (loss - smooth) * 0.05
		tokens += size[0] + size[1]
		if step%20 == 0 {
			log.Printf("step %d loss %.4f smooth %.4f norm %.2f lr %.2e %.0f tokens/s", step, loss, smooth, gn, lr, float64(tokens)/time.Since(start).Seconds())
		}
		if step%200 == 199 || step == last-1 {
			if err := save(filepath.Join(r.dir, "checkpoint"), m, step+1); err != nil {
				return err
			}
			if err := writeGGUF(filepath.Join(r.dir, "model.gguf"), m, tok); err != nil {
				return err
			}
		}
	}
	log.Printf("held-out loss %.4f", heldLoss(m, tok))
	return nil
}

// adam applies one AdamW step with the sum of both gradients, clipped to norm
// one, and returns the norm before.
func adam(m *Model, a, b [][]float32, step int, lr float64) float64 {
	const b1, b2, decay = 0.9, 0.98, 0.05
	var sq float64
	for i := range a {
		for j, v := range b[i] {
			a[i][j] += v
			sq += float64(a[i][j]) * float64(a[i][j])
		}
	}
	norm := math.Sqrt(sq)
	clip := float32(1)
	if norm > 1 {
		clip = float32(1 / norm)
	}
	c1, c2 := 1-math.Pow(b1, float64(step)), 1-math.Pow(b2, float64(step))
	rate, inv2 := float32(lr/c1), float32(1/c2)
	for i, p := range m.Params {
		keep := float32(1)
		if p.Decay {
			keep = float32(1 - lr*decay)
		}
		for j, g := range a[i] {
			g *= clip
			p.M[j] = b1*p.M[j] + (1-b1)*g
			p.V[j] = b2*p.V[j] + (1-b2)*g*g
			p.W[j] = p.W[j]*keep - rate*p.M[j]/(float32(math.Sqrt(float64(p.V[j]*inv2)))+1e-8)
		}
	}
	m.Refresh()
	return norm
}
