package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

//go:embed fatapp
var fatAppFiles embed.FS

// fatAppSize says how much is generated around the hand-written core of fat-app. Together with the gems of Debian it
// makes an application that boots two to three times as long as Redmine; the gems take most of that.
type fatAppSize struct {
	Gems, FilesPerGem    int
	Models, MethodsEach  int
	Settings, KeysEach   int
	Locales, PhrasesEach int
}

var standardFatApp = fatAppSize{
	Gems: 20, FilesPerGem: 15,
	Models: 300, MethodsEach: 25,
	Settings: 60, KeysEach: 250,
	Locales: 8, PhrasesEach: 2500,
}

// fatAppImage is a Rails application that loads some 300 gems and what they need, nearly all of them real, and much
// code of its own.
func fatAppImage() image {
	list, err := fs.ReadFile(fatAppFiles, "fatapp/gems.txt")
	if err != nil {
		panic(err) // embedded
	}
	var packages []string
	for line := range strings.Lines(string(list)) {
		packages = append(packages, strings.Fields(line)[1])
	}
	r := recipe{
		Suite:  "bookworm",
		Mirror: mirror(),
		Setup:  aptInstall("puma ruby-railties "+strings.Join(packages, " ")) + trimImage,
	}
	return image{
		Name:   "fat-app",
		Recipe: []any{r.keyed(), standardFatApp, contents(fatAppFiles), 1},
		Config: imageConfig{
			Cmd: []string{"puma", "-e", "production", "-b", "tcp://0.0.0.0:3000", "config.ru"},
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
				"RAILS_ENV=production", "GEM_PATH=/app/vendor:" + debianGemPath,
			},
			WorkingDir:   "/app",
			ExposedPorts: map[string]struct{}{"3000/tcp": {}},
		},
		Build: func(ctx context.Context, _ *Lab, dir string) error {
			if err := debianImage(ctx, r, dir); err != nil {
				return err
			}
			return generateFatApp(filepath.Join(dir, "app"), standardFatApp)
		},
	}
}

// debianGemPath is where Debian's Ruby looks for gems by default; naming another place replaces the defaults.
const debianGemPath = "/var/lib/gems/3.1.0:/usr/share/rubygems-integration/all:/usr/share/rubygems-integration/3.1.0:" +
	"/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0:/usr/lib/ruby/gems/3.1.0:/usr/lib/x86_64-linux-gnu/ruby/gems/3.1.0"

// contents returns embedded files by path, for an image's key.
func contents(embedded embed.FS) map[string]string {
	files := map[string]string{}
	err := fs.WalkDir(embedded, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := embedded.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		panic(err) // embedded
	}
	return files
}

// generateFatApp writes the application: the hand-written core, and generated gems, models, settings and locales. The
// same size gives the same files on every machine.
func generateFatApp(dir string, size fatAppSize) error {
	core, err := fs.Sub(fatAppFiles, "fatapp/app")
	if err != nil {
		return fmt.Errorf("fat-app: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("fat-app: %w", err)
	}
	if err := os.CopyFS(dir, core); err != nil {
		return fmt.Errorf("fat-app: %w", err)
	}
	list, err := fs.ReadFile(fatAppFiles, "fatapp/gems.txt")
	if err != nil {
		return fmt.Errorf("fat-app: %w", err)
	}
	files := map[string]string{}
	gems := strings.Builder{}
	gems.Write(list)
	for i := 1; i <= size.Gems; i++ {
		name := fmt.Sprintf("fat_gem_%03d", i)
		fmt.Fprintf(&gems, "%s - %s\n", name, name)
		addGem(files, name, size.FilesPerGem)
	}
	files["gems.txt"] = gems.String()
	for i := 1; i <= size.Models; i++ {
		files[fmt.Sprintf("app/models/thing_%04d.rb", i)] = model(i, size.MethodsEach)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same everywhere, that's the point
	for i := 1; i <= size.Settings; i++ {
		files[fmt.Sprintf("config/settings/section_%03d.yml", i)] = settings(random, size.KeysEach)
	}
	for i := 1; i <= size.Locales; i++ {
		files[fmt.Sprintf("config/locales/phrases_%02d.yml", i)] = phrases(random, i, size.PhrasesEach)
	}
	placed := map[string]string{}
	for name, content := range files {
		placed[filepath.Join(dir, name)] = content
	}
	return writeFiles(placed)
}
