package snapshot_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

func TestRisks(t *testing.T) {
	losses := []string{"clones lack the socket /run/app.sock"}
	c := snapshot.Config{
		Run:        snapshot.RunConfig{Env: map[string]string{"DB_PASSWORD": "0123456789abcdef", "PATH": "fedcba9876543210"}},
		Generators: []string{"OpenSSL", "Ruby"},
		MountFiles: []criu.MountFile{{Path: "/data/db", Mount: "/data"}, {Path: "/data/log", Mount: "/data"}, {Path: "/secrets/key", Mount: "/secrets"}},
		KeptFiles:  []criu.MountFile{{Path: "/data/log", Mount: "/data"}, {Path: "/secrets/key", Mount: "/secrets"}},
		Checkpoint: criu.DefaultOptions(),
		Sockets: []criu.Socket{
			{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "172.17.0.2:80"},
			{PID: 2, Protocol: "tcp", State: "LISTEN", Source: "172.17.0.2:80"},
			{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:81"},
		},
		Host:   snapshot.Host{Host: criu.Host{CPUModel: "Xeon", CPUFeatures: []string{"avx2", "erms", "smep"}, XSaveSize: 2696}},
		Losses: &losses,
	}
	kinds := func() map[string]snapshot.Risk {
		m := map[string]snapshot.Risk{}
		for _, r := range c.Risks() {
			require.NotContains(t, m, r.Kind)
			m[r.Kind] = r
		}
		return m
	}
	risks := kinds()
	require.Len(t, risks, 7)
	require.Equal(t, []string{"DB_PASSWORD"}, risks[snapshot.RiskSecrets].Items)
	require.Equal(t, c.Generators, risks[snapshot.RiskGenerators].Items)
	require.Contains(t, risks[snapshot.RiskGenerators].Message, "no hook")
	require.Equal(t, []string{"/data/db on /data"}, risks[snapshot.RiskMountFiles].Items)
	require.Equal(t, []string{"/data/log on /data", "/secrets/key on /secrets"}, risks[snapshot.RiskKeptFiles].Items)
	require.Contains(t, risks[snapshot.RiskKeptFiles].Message, "secrets among them")
	require.Equal(t, []string{"tcp 172.17.0.2:80 LISTEN"}, risks[snapshot.RiskAddresses].Items)
	require.Equal(t, []string{"avx2"}, risks[snapshot.RiskCPU].Items, "neither what programs can't see nor what is for speed alone")
	require.Contains(t, risks[snapshot.RiskCPU].Message, "2696 bytes")
	require.Equal(t, losses[0], risks[snapshot.RiskLosses].Message)
	b, err := json.Marshal(c.Risks())
	require.NoError(t, err)
	require.NotContains(t, string(b), "0123456789abcdef", "not even hashes of values")

	c.Hooks.AfterRestore = []hook.Hook{{Type: hook.Signal, Signal: "HUP"}}
	c.Host.CPUBaseline = "x86-64-v2"
	risks = kinds()
	require.Equal(t, []string{"signal:HUP"}, risks[snapshot.RiskHooks].Items)
	require.NotContains(t, risks[snapshot.RiskGenerators].Message, "no hook")
	require.Contains(t, risks[snapshot.RiskCPU].Message, "x86-64-v2")
	require.Contains(t, risks[snapshot.RiskCPU].Items, "sse4_2")
	require.NotContains(t, risks[snapshot.RiskCPU].Items, "avx2")

	var earlier snapshot.Config
	require.NoError(t, json.Unmarshal([]byte(`{"run": {"args": ["/app"]}}`), &earlier))
	require.Len(t, earlier.Risks(), 1)
	require.Contains(t, earlier.Risks()[0].Message, "earlier version")
	none := []string{}
	require.Empty(t, snapshot.Config{Losses: &none}.Risks())
	b, err = json.Marshal(snapshot.Config{Losses: &none})
	require.NoError(t, err)
	require.Contains(t, string(b), `"losses":[]`, "that nothing was found is not that nobody looked")
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"DB_PASSWORD": true, "PGPASSWORD": true, "MYSQL_PWD": true, "API_KEY": true, "OPENAI_API_KEY": true, "SECRET_KEY_BASE": true,
		"RAILS_MASTER_KEY": true, "GITHUB_TOKEN": true, "token": true, "DATABASE_URL": true, "SENTRY_DSN": true, "SMTP_PASS": true,
		"POSTGRES_PASSWORD_FILE": true, "AWS_ACCESS_KEY_ID": true, "RELEASE_COOKIE": true, "GOOGLE_APPLICATION_CREDENTIALS": true,
		"PATH": false, "PWD": false, "OLDPWD": false, "GPG_KEY": false, "SSH_PUBLIC_KEY": false, "KEYBOARD": false, "AUTHOR": false,
		"TOKENIZERS_PARALLELISM": false, "BYPASS": false, "COMPASS": false, "BASE_URL": false, "MONKEY": false, "LANG": false,
	} {
		found := false
		none := []string{}
		for _, r := range (snapshot.Config{Run: snapshot.RunConfig{Env: map[string]string{name: ""}}, Losses: &none}).Risks() {
			found = found || r.Kind == snapshot.RiskSecrets
		}
		require.Equal(t, want, found, name)
	}
}

// The sections that risks name are in the manual.
func TestRisksNameSections(t *testing.T) {
	source, err := os.ReadFile("risks.go")
	require.NoError(t, err)
	links := regexp.MustCompile(`"docs/([a-z-]+\.md)#([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	require.Greater(t, len(links), 5)
	for _, link := range links {
		page, err := os.ReadFile("../../docs/" + link[1])
		require.NoError(t, err)
		var sections []string
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(page), -1) {
			plain := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
			sections = append(sections, strings.ReplaceAll(plain, " ", "-"))
		}
		require.Contains(t, sections, link[2], link[1])
	}
}
