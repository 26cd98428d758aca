package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// component is something that is linked into a program, with the licence that it is under.
type component struct {
	name, version, license string
	text                   string // of the licence
}

// nomadModule holds parts under two licences. go-licenses knows all texts that it meets but Nomad's Business Source License.
const (
	nomadModule  = "github.com/hashicorp/nomad"
	nomadLicense = "BUSL-1.1"
	unknown      = "Unknown"
)

// writeNotices writes what the repository's NOTICE says, and every licence, for each product.
func (r *release) writeNotices(ctx context.Context) error {
	head, err := os.ReadFile(filepath.Join(r.source, "NOTICE"))
	if err != nil {
		return err
	}
	for _, p := range products {
		var components []component
		if !r.draft {
			if components, err = r.components(ctx, p); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		content := notice(string(head), p, components)
		if err := r.write(filepath.Join("out/notice", p.name), []byte(content)); err != nil {
			return err
		}
		if err := r.writeCompressed(filepath.Join("out/notice", p.name+".gz"), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// components lists what is in a product, but our own source.
func (r *release) components(ctx context.Context, p product) ([]component, error) {
	const report = "{{range .}}{{.Name}}\t{{.Version}}\t{{.LicenseName}}\t{{.LicensePath}}\n{{end}}"
	if err := r.write("out/report.tmpl", []byte(report)); err != nil {
		return nil, err
	}
	// Addresses of licences, which it looks for as well, are not used: it may fail to find them.
	out, err := r.output(ctx, "env", append([]string{"CGO_ENABLED=0", "GOFLAGS=-tags=disable_grpc_modules", r.tools.licenses, "report", "--template", "out/report.tmpl"}, p.dirs...)...)
	if err != nil {
		return nil, err
	}
	var all []component
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("go-licenses reported %q: want name, version, licence and path", line)
		}
		if strings.HasPrefix(fields[0], "github.com/criu-docker/criu-docker") {
			continue
		}
		c, err := r.component(ctx, fields)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	golang, err := r.golang(ctx)
	if err != nil {
		return nil, err
	}
	return append(all, golang), nil
}

func (r *release) component(ctx context.Context, fields []string) (component, error) {
	c := component{name: fields[0], version: fields[1], license: fields[2]}
	path := fields[3]
	if c.license == unknown {
		if !strings.HasPrefix(c.name, nomadModule+"/") {
			return c, fmt.Errorf("%s %s: its licence is not known; find out, and say so here", c.name, c.version)
		}
		dir, err := output(ctx, r.source, "go", "list", "-m", "-f", "{{.Dir}}", nomadModule)
		if err != nil {
			return c, err
		}
		c.license, path = nomadLicense, filepath.Join(dir, "LICENSE")
	}
	text, err := os.ReadFile(path)
	c.text = string(text)
	if c.license == nomadLicense && !strings.Contains(c.text, "Business Source License 1.1") {
		err = errors.Join(err, fmt.Errorf("%s is not the Business Source License 1.1", path))
	}
	return c, err
}

// golang is Go's runtime and standard library.
func (r *release) golang(ctx context.Context) (component, error) {
	root, err := output(ctx, r.source, "go", "env", "GOROOT")
	if err != nil {
		return component{}, err
	}
	toolchain, err := output(ctx, r.source, "go", "env", "GOVERSION")
	if err != nil {
		return component{}, err
	}
	text, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	return component{"Go runtime and standard library", toolchain, "BSD-3-Clause", string(text)}, err
}

// notice lists all components, and then each licence's text once.
func notice(head string, p product, components []component) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nIn %s there is, by name, version and licence:\n\n", head, strings.Join(p.binaries(), " and "))
	byText := map[string][]component{}
	for _, c := range components {
		fmt.Fprintf(&b, "  %s %s: %s\n", c.name, c.version, c.license)
		byText[c.text] = append(byText[c.text], c)
	}
	texts := make([][]component, 0, len(byText))
	for _, of := range byText {
		texts = append(texts, of)
	}
	slices.SortFunc(texts, func(a, b []component) int {
		return cmp.Or(cmp.Compare(a[0].name, b[0].name), cmp.Compare(a[0].text, b[0].text)) // one module may have several licences
	})
	for _, of := range texts {
		b.WriteString("\n" + strings.Repeat("-", 80) + "\n")
		for _, c := range of {
			fmt.Fprintf(&b, "%s %s\n", c.name, c.version)
		}
		b.WriteString("\n" + strings.TrimSpace(strings.ReplaceAll(of[0].text, "\r\n", "\n")) + "\n")
	}
	return b.String()
}
