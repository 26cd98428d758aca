package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFatAppIsTheSameEverywhere(t *testing.T) {
	one, two := generatedDigests(t), generatedDigests(t)
	if len(one) != len(two) {
		t.Fatalf("one run makes %d files, another %d", len(one), len(two))
	}
	for path, digest := range one {
		if two[path] != digest {
			t.Errorf("%s differs from one run to another", path)
		}
	}
}

// generatedDigests generates fat-app and returns the digest of each of its files.
func generatedDigests(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := generateFatApp(dir, standardFatApp); err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		digests[strings.TrimPrefix(path, dir)] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

func TestFatAppListsItsGemsOnce(t *testing.T) {
	dir := t.TempDir()
	if err := generateFatApp(dir, standardFatApp); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "gems.txt"))
	if err != nil {
		t.Fatal(err)
	}
	gems := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			t.Errorf("want gem, package and feature: %q", line)
			continue
		}
		if gems[fields[0]] {
			t.Errorf("%s is listed twice", fields[0])
		}
		gems[fields[0]] = true
	}
	if len(gems) < 250 {
		t.Errorf("%d gems, want 250 or more", len(gems))
	}
}

// The boot loads every gem, model, settings file and translation, so whatever Ruby can't parse makes it fail.
func TestFatAppBoots(t *testing.T) {
	l := newTestLab(t)
	l.must(t, upArgs("--images", "fat-app")...)
	l.must(t, "exec", "--", "docker", "run", "-d", "--name", "fat-app", "-p", "3000:3000", "fat-app:lab")
	t.Cleanup(func() {
		if t.Failed() {
			out, err := l.run("exec", "--", "docker", "logs", "--tail", "40", "fat-app")
			t.Logf("its log ends with: %s %v", out, err)
		}
	})
	waitUntil(t, "fat-app answers", func() bool {
		if state := l.must(t, "exec", "--", "docker", "inspect", "-f", "{{.State.Status}}", "fat-app"); state != "running\n" {
			t.Fatalf("fat-app is %s", state)
		}
		_, err := l.run("exec", "--", "curl", "-sf", "http://127.0.0.1:3000/")
		return err == nil
	})
	var about struct{ Gems, Models, Settings int }
	answer := l.must(t, "exec", "--", "curl", "-sf", "http://127.0.0.1:3000/about")
	if err := json.Unmarshal([]byte(answer), &about); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if about.Gems < 250 || about.Models != standardFatApp.Models || about.Settings != standardFatApp.Settings {
		t.Errorf("loaded: %+v, want 250 gems or more, and of the rest what is generated: %+v", about, standardFatApp)
	}
}
