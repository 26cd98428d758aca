//go:build release

// These tests make releases, with all tools, and install them. make test-release runs them.

package main

import (
	"debug/buildinfo"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/version"
)

var (
	nfpmFlag      = flag.String("nfpm", "nfpm", "as of the program")
	cyclonedxFlag = flag.String("cyclonedx-gomod", "cyclonedx-gomod", "as of the program")
	licensesFlag  = flag.String("go-licenses", "go-licenses", "as of the program")
	labFlag       = flag.String("lab", "lab", "program that has the root file system of nodes")
)

const (
	older = "0.1.0"
	newer = "0.2.0"
)

func TestRelease(t *testing.T) {
	program := filepath.Join(t.TempDir(), "release")
	must(t, "", "go", "build", "-o", program, ".")
	t.Setenv("GNUPGHOME", keyring(t))

	here := checkout(t, "../../..", t.TempDir(), older)
	first := makeRelease(t, program, here, "-key", signer)

	t.Run("is reproducible", func(t *testing.T) {
		there := checkout(t, here, filepath.Join(t.TempDir(), "another", "place"), older)
		second := makeRelease(t, "env", there, "GOCACHE="+t.TempDir(), "TZ=Asia/Tokyo", "LC_ALL=C", "sh", "-c", `umask 077; exec "$0" "$@"`, program)
		require.Equal(t, unsigned(read(t, filepath.Join(first, "SHA256SUMS"))), read(t, filepath.Join(second, "SHA256SUMS")))
		require.NoFileExists(t, filepath.Join(second, "SHA256SUMS.sig"))
	})
	t.Run("is signed", func(t *testing.T) {
		requireSums(t, first, "SHA256SUMS")
		for _, sums := range []string{"SHA256SUMS", providerName + "/dist/" + providerName + "_" + older + "_SHA256SUMS"} {
			must(t, first, "gpg", "--batch", "--verify", sums+".sig", sums)
		}
	})
	t.Run("says what it was built from", func(t *testing.T) {
		commit := must(t, here, "git", "rev-parse", "HEAD")
		for _, archive := range []string{"criu-docker", "nomad-driver-criu-docker"} {
			dir := t.TempDir()
			must(t, dir, "tar", "xzf", filepath.Join(first, archive+"_"+older+"_linux_amd64.tar.gz"), "--strip-components=1")
			for _, p := range products {
				for _, binary := range p.binaries() {
					if p.name != archive {
						continue
					}
					info, err := buildinfo.ReadFile(filepath.Join(dir, binary))
					require.NoError(t, err)
					about := version.Of(info)
					require.Equal(t, older, about.Version)
					require.Equal(t, commit, about.Revision)
					require.False(t, about.Modified)
					requireNamed(t, info.Deps, read(t, filepath.Join(dir, "NOTICE")), read(t, filepath.Join(first, binary+"_"+older+"_linux_amd64.cdx.json")))
				}
			}
			if archive != "criu-docker" {
				require.Contains(t, read(t, filepath.Join(dir, "NOTICE")), nomadModule+"/nomad/structs v1.11.3: "+nomadLicense)
				continue
			}
			require.NotContains(t, read(t, filepath.Join(dir, "NOTICE")), nomadModule+"/")
			require.Contains(t, must(t, dir, "./criu-docker", "version"), "criu-docker "+older+" "+commit)
			require.Contains(t, must(t, dir, "./criu-docker-runc", "version"), "criu-docker-runc "+older+" "+commit)
			for _, name := range []string{"man/criu-docker-run.1.gz", "completion/bash", "docs/cli.md", "systemd/criu-docker-cache-prune.timer"} {
				require.FileExists(t, filepath.Join(dir, name))
			}
		}
	})
	t.Run("has an installable provider", func(t *testing.T) {
		requireInstallable(t, filepath.Join(first, providerName), older)
	})

	must(t, here, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--allow-empty", "-m", "the next version")
	must(t, here, "git", "tag", "v"+newer)
	kept := filepath.Join(t.TempDir(), "older")
	require.NoError(t, os.Rename(first, kept))
	second := makeRelease(t, program, here)
	t.Run("is good Debian packages", func(t *testing.T) {
		m := newMachine(t, kept, second)
		m.ok("lintian --allow-root --fail-on error,warning --info --tag-display-limit 0 /mnt/newer/*.deb")
	})
	t.Run("is a deb that comes and goes", testDeb(kept, second))
	t.Run("is an rpm that comes and goes", testRPM(kept, second))
}

// checkout clones what is committed there, as that version.
func checkout(t *testing.T, from, dir, v string) string {
	t.Helper()
	dir = filepath.Join(dir, "source")
	must(t, from, "git", "clone", "--quiet", "--no-tags", ".", dir)
	must(t, dir, "git", "tag", "v"+v)
	return dir
}

// makeRelease runs the program in a checkout, by way of others if need be.
func makeRelease(t *testing.T, program, dir string, args ...string) string {
	t.Helper()
	must(t, dir, program, append(args, "-nfpm", *nfpmFlag, "-cyclonedx-gomod", *cyclonedxFlag, "-go-licenses", *licensesFlag)...)
	return filepath.Join(dir, "out", "release")
}

const signer = "Release Test <release@test.invalid>"

func keyring(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpg") // short: there will be sockets in it
	require.NoError(t, err)
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--homedir", dir, "--kill", "all")
		require.NoError(t, kill.Run())
		require.NoError(t, os.RemoveAll(dir))
	})
	must(t, "", "gpg", "--homedir", dir, "--batch", "--passphrase", "", "--quick-generate-key", signer, "ed25519", "sign", "never")
	return dir
}

// unsigned leaves out the checksums of signatures, which have a time in them.
func unsigned(sums string) string {
	return regexp.MustCompile(`(?m)^.*\.sig\n`).ReplaceAllString(sums, "")
}

// requireNamed checks that each module that is linked is in the notice, by a package of it at least, and in the bill of materials.
func requireNamed(t *testing.T, modules []*debug.Module, noticeText, bill string) {
	t.Helper()
	for _, m := range modules {
		require.True(t, regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(m.Path)+`(/\S+)? `+regexp.QuoteMeta(strings.TrimSuffix(m.Version, "+incompatible"))+`: `).MatchString(noticeText), m.Path)
		require.True(t, strings.Contains(bill, "pkg:golang/"+m.Path+"@"+m.Version+"?"), m.Path)
	}
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := output(t.Context(), dir, name, args...)
	require.NoError(t, err)
	return out
}

// machine is a node's root file system with what checks packages, of which the test may change a copy. Nothing runs in it.
type machine struct {
	t            *testing.T
	lower, dir   string
	older, newer string
}

func newMachine(t *testing.T, older, newer string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), older: older, newer: newer}
	m.lower = must(t, "", *labFlag, "layer", "lintian", "rpm", "man-db")
	for _, d := range []string{"root", "upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(m.dir, d), 0o755))
	}
	return m
}

// run runs a script with what is installed by now. The releases are in /mnt/older and /mnt/newer.
func (m *machine) run(script string) (string, error) {
	const enter = `cd "$1"
mount -t overlay overlay -o lowerdir="$2",upperdir=upper,workdir=work root
mount -t proc proc root/proc; mount --rbind /dev root/dev; mount -t tmpfs tmpfs root/run; mount -t tmpfs tmpfs root/tmp; mount -t tmpfs tmpfs root/mnt
mkdir root/mnt/older root/mnt/newer; mount --bind "$3" root/mnt/older; mount --bind "$4" root/mnt/newer
exec chroot root /bin/sh -ec "$5"`
	cmd := exec.CommandContext(m.t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"sh", "-ec", enter, "sh", m.dir, m.lower, m.older, m.newer, script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "MANPAGER=cat", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *machine) ok(script string) string {
	m.t.Helper()
	out, err := m.run(script)
	require.NoError(m.t, err, "%s\n%s", script, out)
	return out
}

// files are all files of the machine but the package managers' own.
func (m *machine) files() []string {
	m.t.Helper()
	return strings.Fields(m.ok(`find / -xdev \( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /mnt -o -path /var/lib/dpkg -o -path /var/lib/rpm \
		-o -path /var/log -o -path /var/cache/man -o -path /var/cache/ldconfig \) -prune -o -print | tr ' ' _ | sort`))
}

// differing are the names that are in one of the two only.
func differing(before, after []string) []string {
	return slices.Concat(
		slices.DeleteFunc(slices.Clone(before), func(name string) bool { _, found := slices.BinarySearch(after, name); return found }),
		slices.DeleteFunc(slices.Clone(after), func(name string) bool { _, found := slices.BinarySearch(before, name); return found }),
	)
}

const registered = `"/usr/bin/criu-docker-runc"`

func testDeb(olderDir, newerDir string) func(*testing.T) {
	return func(t *testing.T) {
		m := newMachine(t, olderDir, newerDir)
		before := m.files()

		out := m.ok("dpkg -i /mnt/older/*.deb")
		require.Contains(t, out, `run "criu-docker doctor"`)
		require.NotContains(t, m.ok("cat /etc/docker/daemon.json 2>&1 || true"), registered, "nobody has asked for it")
		m.requireInstalled(older)
		require.Contains(t, m.ok("dpkg -s criu-docker"), "Depends: criu (>= 4.2)")
		require.Contains(t, m.ok("dpkg -s criu-docker"), "Recommends: docker.io | docker-ce | moby-engine")
		require.Contains(t, m.ok("systemd-analyze verify /usr/lib/systemd/system/criu-docker-cache-prune.*; systemctl is-enabled criu-docker-cache-prune.timer || true"), "disabled")
		m.ok("bash -c '. /usr/share/bash-completion/completions/criu-docker; complete -p criu-docker'")

		installed := m.ok("criu-docker runtime install")
		require.Contains(t, installed, "/usr/bin/criu-docker-runc: as it was\n")
		require.Contains(t, m.ok("cat /etc/docker/daemon.json"), registered)
		for _, removal := range []string{"--remove", "--purge"} {
			out, err := m.run("dpkg " + removal + " nomad-driver-criu-docker; dpkg " + removal + " criu-docker")
			require.Error(t, err)
			require.Contains(t, out, `run "criu-docker runtime uninstall" first`)
			m.ok("dpkg --configure -a; dpkg -s criu-docker | grep -q '^Status: .* ok installed'; dpkg -i /mnt/older/nomad-driver*.deb")
			m.requireInstalled(older)
		}

		// What has an old file open, as whatever runs has, goes on with it.
		for _, upgrade := range []struct{ to, version string }{{"newer", newer}, {"older", older}, {"newer", newer}} {
			out := m.ok(`exec 3</usr/bin/criu-docker-runc; old=$(sha256sum </usr/bin/criu-docker-runc); config=$(cat /etc/docker/daemon.json)
				dpkg -i /mnt/` + upgrade.to + `/*.deb
				[ "$(sha256sum <&3)" = "$old" ]; [ "$(sha256sum </usr/bin/criu-docker-runc)" != "$old" ]; [ "$(cat /etc/docker/daemon.json)" = "$config" ]`)
			require.NotContains(t, out, "doctor", "that is for those to whom it is new")
			m.requireInstalled(upgrade.version)
		}

		m.ok(`criu-docker runtime uninstall; systemctl enable criu-docker-cache-prune.timer
			cd /var/lib; mkdir -p criu-docker/store; cd criu-docker
			for kind in build cache requests nomad store; do mkdir -p $kind; touch $kind/.$kind $kind/something; done`)
		out = m.ok("dpkg --purge nomad-driver-criu-docker criu-docker")
		require.Contains(t, out, "snapshots stay in /var/lib/criu-docker/store")
		m.ok("rm -r /var/lib/criu-docker")
		require.Empty(t, differing(before, m.files()), "nothing is left but the snapshots")

		m.ok(`dpkg -i /mnt/newer/*.deb; mkdir -p /var/lib/criu-docker/store /var/lib/criu-docker/cache; touch /var/lib/criu-docker/store/.store /var/lib/criu-docker/cache/mine
			dpkg --purge nomad-driver-criu-docker criu-docker`)
		require.Equal(t, "/var/lib/criu-docker\n/var/lib/criu-docker/cache\n/var/lib/criu-docker/cache/mine\n", m.ok("find /var/lib/criu-docker | sort"), "what is not marked is somebody's, an empty store nobody's")
	}
}

func testRPM(olderDir, newerDir string) func(*testing.T) {
	return func(t *testing.T) {
		m := newMachine(t, olderDir, newerDir)
		m.ok("rpm --initdb")
		before := m.files()
		// The machine's packages are Debian's, so rpm knows none that are needed.
		require.Contains(t, m.ok("rpm -qp --requires /mnt/older/criu-docker-*.rpm"), "criu >= 4.2")
		require.Contains(t, m.ok("rpm -qp --recommends /mnt/older/criu-docker-*.rpm"), "moby-engine")
		require.Contains(t, m.ok("rpm -i --nodeps /mnt/older/*.rpm"), `run "criu-docker doctor"`)
		m.requireInstalled(older)
		m.ok("criu-docker runtime install")
		out, err := m.run("rpm -e nomad-driver-criu-docker; rpm -e criu-docker")
		require.Error(t, err)
		require.Contains(t, out, `run "criu-docker runtime uninstall" first`)
		require.NotContains(t, m.ok("rpm -U --nodeps /mnt/newer/*.rpm"), "doctor")
		m.requireInstalled(newer)
		m.ok("rpm -U --nodeps --oldpackage /mnt/older/*.rpm")
		m.requireInstalled(older)
		m.ok("criu-docker runtime uninstall; systemctl enable criu-docker-cache-prune.timer; rpm -e nomad-driver-criu-docker criu-docker")
		require.Empty(t, differing(before, m.files()))
	}
}

func (m *machine) requireInstalled(v string) {
	m.t.Helper()
	out := m.ok(`criu-docker version; criu-docker-runc version; criu-docker-runc --version; criu-docker-pages 2>&1 || true
		man criu-docker-cache-prune | col -b; man -w criu-docker criu-docker-runc criu-docker-pages`)
	require.Contains(m.t, out, "criu-docker "+v+" ")
	require.Contains(m.t, out, "criu-docker-runc "+v+" ")
	require.Regexp(m.t, `(?m)^runc version `, out, "dockerd reads that")
	require.Contains(m.t, out, "usage: criu-docker-pages CONTAINER")
	require.Contains(m.t, out, "Removes what belongs to containers that no longer exist")
	require.Equal(m.t, 2, strings.Count(out, "/usr/share/man/man1/criu-docker-runtime-install.1.gz"), "the page of those that other programs start")
	m.ok("test -x /usr/lib/nomad/plugins/nomad-driver-criu-docker || ! test -e /usr/share/doc/nomad-driver-criu-docker")
}
