package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

const outOfDate = "docs/provider is out of date: run go generate ./provider"

// TestDocsAreCurrent compares what docs/provider says of every attribute with the schemas, and its examples with
// provider/examples: to run the generator takes too long for a test.
func TestDocsAreCurrent(t *testing.T) {
	got, err := server(t).GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	compareDocs(t, "index.md", got.Provider, "provider/provider.tf")
	for name, s := range got.ResourceSchemas {
		compareDocs(t, "resources/"+strings.TrimPrefix(name, "criu_")+".md", s, "resources/"+name+"/resource.tf", "resources/"+name+"/import.sh")
	}
	for name, s := range got.DataSourceSchemas {
		compareDocs(t, "data-sources/"+strings.TrimPrefix(name, "criu_")+".md", s, "data-sources/"+name+"/data-source.tf")
	}
	for name, f := range got.Functions {
		page := readFile(t, filepath.Join("../docs/provider/functions", name+".md"))
		for _, text := range []string{f.Description, f.Parameters[0].Description, readFile(t, filepath.Join("examples/functions", name, "function.tf"))} {
			if !strings.Contains(page, strings.TrimSpace(text)) {
				t.Errorf("%s; functions/%s.md lacks %q", outOfDate, name, text)
			}
		}
	}
}

// bullet is how the generator describes an attribute: - `name` (Type) Description. (see [below …
var bullet = regexp.MustCompile("(?m)^- `([a-z_]+)` \\([^)]*\\) (.*?)(?: \\(see \\[below for nested schema\\].*)?$")

func compareDocs(t *testing.T, file string, s *tfprotov6.Schema, examples ...string) {
	t.Helper()
	page := readFile(t, filepath.Join("../docs/provider", file))
	if !strings.Contains(page, strings.TrimSpace(s.Block.Description)) {
		t.Errorf("%s; %s lacks %q", outOfDate, file, s.Block.Description)
	}
	for _, example := range examples {
		if !strings.Contains(page, strings.TrimSpace(readFile(t, filepath.Join("examples", example)))) {
			t.Errorf("%s; %s lacks %s", outOfDate, file, example)
		}
	}
	differ := map[string]int{}
	for _, a := range describedAttributes(s.Block.Attributes) {
		differ[a]++
	}
	for _, m := range bullet.FindAllStringSubmatch(page, -1) {
		differ[m[1]+": "+m[2]]--
	}
	maps.DeleteFunc(differ, func(_ string, n int) bool { return n == 0 })
	for _, a := range slices.Sorted(maps.Keys(differ)) {
		t.Errorf("%s; in the schema %+d times more often than in %s: %s", outOfDate, differ[a], file, a)
	}
}

// describedAttributes lists "name: description" of attributes, nested ones too.
func describedAttributes(attributes []*tfprotov6.SchemaAttribute) (list []string) {
	for _, a := range attributes {
		list = append(list, fmt.Sprintf("%s: %s", a.Name, a.Description))
		if a.NestedType != nil {
			list = append(list, describedAttributes(a.NestedType.Attributes)...)
		}
	}
	return list
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestExamplesAreValid lets terraform judge the examples of the reference, which belong together.
func TestExamplesAreValid(t *testing.T) {
	p := newProject(t)
	files, err := filepath.Glob("examples/*/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	nested, err := filepath.Glob("examples/*/*/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, nested...)
	if len(files) < 5 {
		t.Fatalf("only %d examples: %q", len(files), files)
	}
	for _, file := range files {
		p.write(t, strings.ReplaceAll(strings.TrimPrefix(file, "examples/"), "/", "-"), readFile(t, file))
	}
	if err := os.Mkdir(filepath.Join(p.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.write(t, "db/schema.rb", "") // an example has its hash among the triggers
	p.terraform(t, "fmt", "-check", "-diff")
	p.terraform(t, "validate")
}
