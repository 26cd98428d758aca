package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

func TestRunFromSnapshot(t *testing.T) {
	p := newProgram(t)
	envFile := p.path("env")
	require.NoError(t, os.WriteFile(envFile, []byte("# where\nREGION=eu\nGREETING=good day\n"), 0o600))
	ref := p.ok(p.buildArgs("--env-file", envFile, "-e", "MODE=production")...)

	name := "criu-docker-cli-test-web"
	started := documents[startedResult](t, p.ok(p.runArgs(tinyImage, "--json", "--env-file", envFile, "-e", "MODE=production",
		"-p", "127.0.0.1::80", "--name", name, "-h", "web-1", "--policy", "always")...))
	require.Len(t, started, 1)
	clone := started[0]
	require.Equal(t, restore.Hot, clone.Start)
	require.Equal(t, ref, clone.Ref)
	require.Empty(t, clone.Reason)
	require.ElementsMatch(t, []string{"resolve", "fetch", "create", "restore"}, stepNames(clone.Steps))
	require.NotEmpty(t, clone.Runtime)
	info := p.inspectContainer(clone.Container)
	require.Equal(t, "/"+name, info.Name)
	require.Equal(t, "web-1", p.exec(clone.Container, "hostname"))
	port := info.NetworkSettings.Ports["80/tcp"]
	require.Len(t, port, 1)
	requireAnswer(t, "http://127.0.0.1:"+port[0].HostPort+"/")

	// The second clone has the snapshot in the cache, and every step is told on a terminal, too.
	o := p.call(p.runArgs(tinyImage, "--timeline", "--env-file", envFile, "-e", "MODE=production", "--hostname", "web-2")...)
	require.Zero(t, o.code, o.stderr)
	id := strings.TrimSpace(o.stdout)
	require.Len(t, id, 64, "nothing but the id is on standard output")
	require.Contains(t, o.stderr, "from the cache")
	require.Regexp(t, `(?m)^runtime +.*\n( .*\n)* +fork `, o.stderr)
	require.Equal(t, "web-2", p.exec(id, "hostname"))
	require.Equal(t, "web-1", p.exec(clone.Container, "hostname"), "the first one keeps its own")
}

// The flags of docker run that take root's rights away lead to the snapshot that was built with them.
func TestRunAsAUser(t *testing.T) {
	p := newProgram(t)
	flags := []string{"--user", "1000:1000", "--group-add", "2000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}
	ref := p.ok(p.buildArgs(flags...)...)
	started := documents[startedResult](t, p.ok(p.runArgs(tinyImage, append([]string{"--json", "--policy", "always", "-p", "127.0.0.1::80"}, flags...)...)...))
	require.Len(t, started, 1)
	require.Equal(t, ref, started[0].Ref)
	id := started[0].Container
	requireAnswer(t, "http://127.0.0.1:"+p.inspectContainer(id).NetworkSettings.Ports["80/tcp"][0].HostPort+"/")
	status := p.exec(id, "cat", "/proc/1/status")
	for _, line := range []string{
		"Uid:\t1000\t1000\t1000\t1000", "Gid:\t1000\t1000\t1000\t1000", "Groups:\t1000 2000 ",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
	} {
		require.Contains(t, status, "\n"+line+"\n")
	}

	o := p.call(p.runArgs(tinyImage, append([]string{"--policy", "always"}, flags[2:]...)...)...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, `the snapshot's user is "1000:1000" and the container's is "root"`)
}

// The timeline is of all that happens from the command to the first answer, and nothing in between is missing.
func TestRunTimeline(t *testing.T) {
	p := newProgram(t)
	p.ok(p.buildArgs()...)
	run := func(policy, file string, flags ...string) []timeline.Span {
		args := append(p.runArgs(tinyImage, "--json", "--policy", policy, "--until", "http://:80/", "--timeline="+p.path(file)), flags...)
		started := documents[startedResult](t, p.ok(args...))
		require.Len(t, started, 1)
		return started[0].Timeline
	}

	spans := run("always", "hot.svg")
	requireWhole(t, spans, "connect", "open store and cache", "image", "resolve", "fetch", "create container", "clone directory", "request",
		"start container", "prepare the runtime", "supervisor", "fork", "held when forked", "mounts", "files", "memory", "held when restored",
		"resume", "conclude", "report")
	picture, err := os.ReadFile(p.path("hot.svg"))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(picture, new(struct {
		XMLName xml.Name `xml:"svg"`
	})))
	require.Equal(t, len(spans), strings.Count(string(picture), `class="span"`))
	require.Contains(t, string(picture), tinyImage+", hot: ")

	cold := []string{"connect", "open store and cache", "image", "create container", "start container"}
	spans = run("never", "cold.json")
	requireWhole(t, spans, cold...)
	file, err := os.ReadFile(p.path("cold.json"))
	require.NoError(t, err)
	var written []timeline.Span
	require.NoError(t, json.Unmarshal(file, &written))
	require.Equal(t, spans, written)

	spans = run("if_present", "fallback.svg", "-e", "MODE=other")
	requireWhole(t, spans, append(cold, "attempt to restore")...)

	o := p.call(p.runArgs(tinyImage, "--until", "http://:80/", "--timeline="+p.path("page.html"))...)
	require.Zero(t, o.code, o.stderr)
	require.Len(t, strings.TrimSpace(o.stdout), 64, "nothing but the id is on standard output")
	require.FileExists(t, p.path("page.html"))
}

// A container that does not answer is told of nevertheless: it is there.
func TestRunUntilItEnds(t *testing.T) {
	p := newProgram(t)
	o := p.call(p.runArgs(tinyImage, "--policy", "never", "--until", "tcp://:1", "--timeline", "--", "/bin/busybox", "sleep", "0.5")...)
	require.Equal(t, exitFailure, o.code)
	require.Len(t, strings.TrimSpace(o.stdout), 64)
	require.Contains(t, o.stderr, "first answer")
	require.Contains(t, o.stderr, `--until "tcp://:1"`)
	require.Contains(t, o.stderr, "it ended with exit code 0")
}

// requireWhole checks that spans are in order, up to the first answer, and that whatever takes its time is among them by name.
func requireWhole(t *testing.T, spans []timeline.Span, names ...string) {
	t.Helper()
	require.NotEmpty(t, spans)
	var got []string
	at := spans[0].Start
	for i, s := range spans {
		require.GreaterOrEqual(t, s.Elapsed, time.Duration(0), s.Name)
		if i > 0 {
			require.False(t, s.Start.Before(spans[i-1].Start), "%s comes before %s", s.Name, spans[i-1].Name)
		}
		if s.End().After(at) {
			at = s.End()
		}
		got = append(got, s.Name)
	}
	require.Subset(t, got, names)
	last := spans[len(spans)-1]
	require.Equal(t, "first answer", last.Name)
	require.Equal(t, at, last.End(), "nothing comes after the first answer")
}

// A ref brings the command and the security options along; of what a snapshot does not tell the flags do.
func TestRunRef(t *testing.T) {
	p := newProgram(t)
	args := p.buildArgs("--entrypoint", "/bin/busybox", "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--tmpfs", "/scratch",
		"-w", "/bin", "-e", "MODE=production", "--", "httpd", "-f", "-p", "8080", "-h", "/www")
	args[3] = "http://:8080/"
	ref := p.ok(args...)
	image, rest, _ := strings.Cut(ref, "/")
	for _, short := range []string{ref, image[:12] + "/" + rest, image[:6], p.digest()[:19]} {
		o := p.call(p.runArgs(short, "--policy", "always", "-e", "MODE=production")...)
		require.Zero(t, o.code, "%s: %s", short, o.stderr)
		id := strings.TrimSpace(o.stdout)
		info := p.inspectContainer(id)
		require.Equal(t, []string{"httpd", "-f", "-p", "8080", "-h", "/www"}, []string(info.Config.Cmd))
		require.Contains(t, info.HostConfig.Tmpfs, "/scratch")
		requireAnswer(t, "http://"+info.NetworkSettings.Networks["bridge"].IPAddress+":8080/")
	}

	o := p.call(p.runArgs(ref, "--policy", "always")...)
	require.Equal(t, exitFailure, o.code, "the environment must be given")
	require.Contains(t, o.stderr, "MODE")

	o = p.call(p.runArgs(tinyImage, "--ref", ref, "--policy", "always")...)
	require.Equal(t, exitFailure, o.code, "the image alone is started otherwise")
	require.Contains(t, o.stderr, "command")
}

func TestRunRestoreMemory(t *testing.T) {
	p := newProgram(t)
	p.ok(p.buildArgs()...)
	for memory, lazy := range map[string]bool{"lazy": true, "eager": false} {
		id := p.ok(p.runArgs(tinyImage, "--policy", "always", "--restore-memory", memory)...)
		request, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(id)
		require.NoError(t, err)
		require.Equal(t, lazy, request.Lazy, memory)
	}
}

func TestRunByPolicy(t *testing.T) {
	p := newProgram(t)
	p.ok(p.buildArgs("-e", "MODE=production")...)
	other := []string{"-e", "MODE=test"}
	for name, test := range map[string]struct {
		args   []string
		code   int
		start  restore.Start
		stderr string
	}{
		"never":              {p.runArgs(tinyImage, "-e", "MODE=production", "--policy", "never"), 0, restore.Cold, ""},
		"if_present":         {p.runArgs(tinyImage, "-e", "MODE=production"), 0, restore.Hot, ""},
		"if_present, misfit": {p.runArgs(tinyImage, other...), 0, restore.Cold, "cold boot: "},
		"always, misfit":     {p.runArgs(tinyImage, append(other, "--policy", "always")...), exitFailure, "", "MODE"},
		"always, none":       {p.runArgs("pause:lab", "--policy", "always"), exitNotFound, "", "no fitting snapshot"},
		"if_present, none":   {p.runArgs("pause:lab"), 0, restore.Cold, "no fitting snapshot"},
		"always, wrong ref":  {p.runArgs(tinyImage, "--policy", "always", "--ref", "sha256:0000"), exitNotFound, "", "sha256:0000"},
		"wrong ref":          {p.runArgs("0123456789ab/77aa"), exitNotFound, "", "is neither a snapshot in"},
		"no store":           {p.runArgs(tinyImage, "--store", p.path("none")), 0, restore.Cold, "is its file system mounted?"},
		"always, no store":   {p.runArgs(tinyImage, "--store", p.path("none"), "--policy", "always"), exitFailure, "", "is its file system mounted?"},
		"no image":           {p.runArgs("no-such-image:1"), exitFailure, "", "no-such-image:1"},
		"too slow":           {p.runArgs(tinyImage, "-e", "MODE=production", "--policy", "always", "--timeout", "1ns"), exitFailure, "", "not restored within 1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.containers()
			o := p.call(test.args...)
			require.Equal(t, test.code, o.code, o.stderr)
			require.Contains(t, o.stderr, test.stderr)
			if test.code != 0 {
				require.Empty(t, o.stdout)
				require.ElementsMatch(t, before, p.containers(), "nothing is left of it")
				return
			}
			host := p.inspectContainer(strings.TrimSpace(o.stdout)).HostConfig
			require.Equal(t, "criu-docker", host.Runtime, "which gives it an identity")
			policy := map[restore.Start]string{restore.Cold: "never", restore.Hot: "if_present"}[test.start]
			require.Equal(t, policy, host.Annotations["io.criu-docker.policy"])
		})
	}
}

// digest is that of the only snapshot.
func (p *program) digest() string {
	p.Helper()
	list := documents[listed](p, p.ok("ls", "--json"))
	require.Len(p, list, 1)
	return list[0].Digest
}

// exec runs a busybox applet in a container.
func (p *program) exec(id string, args ...string) string {
	p.Helper()
	return docker(p, append([]string{"exec", id, "/bin/busybox"}, args...)...)
}

func stepNames(steps []timelineStep) []string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Step)
	}
	return names
}
