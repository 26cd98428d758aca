package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
)

// TestPullWithCredentials: the engine shows a registry what `docker login` noted.
func TestPullWithCredentials(t *testing.T) {
	var loggedIn atomic.Bool
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ci" || password != "s3cret" {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			http.Error(w, "log in", http.StatusUnauthorized)
			return
		}
		loggedIn.Store(true)
		if strings.Contains(r.URL.Path, "/manifests/") {
			http.NotFound(w, r)
		}
	}))
	defer registry.Close()
	host := strings.TrimPrefix(registry.URL, "http://")
	dockerConfig(t, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte("ci:s3cret"))))

	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config:      hcl(directory(t), host+"/web:1", ""),
		PlanOnly:    true,
		ExpectError: says(`Image Cannot Be Resolved`),
	}}})
	if !loggedIn.Load() {
		t.Error("nobody logged in to the registry")
	}
}

func TestRegistryAuth(t *testing.T) {
	dockerConfig(t, `{"auths": {"https://index.docker.io/v1/": {"auth": "Y2k6czNjcmV0"}}}`)
	for image, want := range map[string]bool{
		"web:1":                              true, // Docker Hub
		"acme/web":                           true,
		"registry.example.com/web:1":         false,
		"sha256:" + strings.Repeat("ab", 32): false,
	} {
		auth, err := registryAuth(image)
		if err != nil || (auth != "") != want {
			t.Errorf("%s: %q, %v; want credentials: %t", image, auth, err, want)
		}
	}
}

// TestBrokenCredentialHelper: the error names the registry, the file and the helper.
func TestBrokenCredentialHelper(t *testing.T) {
	dockerConfig(t, `{"credHelpers": {"registry.example.com": "no-such-helper"}}`)
	_, err := registryAuth("registry.example.com/web:1")
	if err == nil || !strings.Contains(err.Error(), "registry.example.com") || !strings.Contains(err.Error(), "docker-credential-no-such-helper") {
		t.Errorf("got %v", err)
	}
}

func dockerConfig(t *testing.T, content string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}
