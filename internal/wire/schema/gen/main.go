// Command gen writes the Go types of the TL schema: one struct for each
// declaration of the .tl files beside it, with its encoding. It is run by
// go generate in internal/wire/schema; its tests prove that the checked-in
// files are what it writes.
//
// Owns: the reading of .tl files, *_gen.go of internal/wire/schema.
// Imports: nothing of this module.
// Trust: its input is ours; a schema it does not understand is refused.
// Concurrency: none.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// sources are the schema's parts. A declaration whose name an earlier part has
// too, with another id, gets the part's suffix on its Go name.
var sources = []source{
	{file: "reference.tl", out: "reference_gen.go"},
	{file: "december.tl", out: "december_gen.go", suffix: "Dec"},
	{file: "level1.tl", out: "level1_gen.go"},
}

type source struct{ file, out, suffix string }

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	files, err := generate(dir)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate reads the schema in dir and returns the Go files by name.
func generate(dir string) (map[string][]byte, error) {
	s, err := load(dir)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, src := range sources {
		if files[src.out], err = emitObjects(s, src); err != nil {
			return nil, fmt.Errorf("%s: %w", src.file, err)
		}
	}
	files["types_gen.go"], err = emitTypes(s)
	return files, err
}
