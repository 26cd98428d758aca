package criu_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/utsns"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/criu-docker/criu-docker/shared/criu"
)

func writeUTS(t *testing.T, path, hostname string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	require.NoError(t, err)
	entry := &utsns.UtsnsEntry{Nodename: proto.String(hostname), Domainname: proto.String("(none)")}
	img := &crit.CriuImage{Magic: "UTSNS", Entries: []*crit.CriuEntry{{Message: entry}}}
	require.NoError(t, crit.New(nil, f, "", false, false).Encode(img))
	require.NoError(t, f.Close())
}

func TestSetHostname(t *testing.T) {
	donor, clone := t.TempDir(), t.TempDir()
	writeUTS(t, filepath.Join(donor, "utsns-11.img"), "donor")
	writeUTS(t, filepath.Join(donor, "utsns-12.img"), "donor-inner")
	for _, name := range []string{"utsns-11.img", "utsns-12.img"} {
		require.NoError(t, os.Link(filepath.Join(donor, name), filepath.Join(clone, name)))
	}

	require.NoError(t, criu.SetHostname(clone, "web-1.example.org"))

	got, err := criu.Hostname(clone)
	require.NoError(t, err)
	require.Equal(t, "web-1.example.org", got)
	require.NoError(t, os.Remove(filepath.Join(clone, "utsns-11.img")))
	got, err = criu.Hostname(clone)
	require.NoError(t, err)
	require.Equal(t, "web-1.example.org", got, "every UTS namespace is renamed")

	got, err = criu.Hostname(donor)
	require.NoError(t, err)
	require.Equal(t, "donor", got, "the hard-linked original is untouched")
	info, err := os.Stat(filepath.Join(clone, "utsns-12.img"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode())
	left, err := os.ReadDir(clone)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays behind")
}

func TestSetHostnameRefuses(t *testing.T) {
	dir := t.TempDir()
	err := criu.SetHostname(dir, "web")
	require.ErrorIs(t, err, criu.ErrNoUTS)
	require.ErrorContains(t, err, dir)
	require.ErrorIs(t, criu.SetHostname(filepath.Join(dir, "gone"), "web"), os.ErrNotExist)

	path := filepath.Join(dir, "utsns-11.img")
	writeUTS(t, path, "donor")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, broken := range map[string][]byte{
		"empty":     {},
		"truncated": whole[:len(whole)-3],
		"no entry":  whole[:8],
		"not CRIU":  []byte("#!/bin/sh\nexit 1\n"),
		"too large": append(whole, make([]byte, 1<<20)...),
	} {
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		require.ErrorContains(t, criu.SetHostname(dir, "web"), path, name)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, broken, now, name)
	}
}

func TestValidateHostname(t *testing.T) {
	for _, good := range []string{"a", "web-1", "WEB", "0a1b2c", "web.example.org", "my_app_1", strings.Repeat("x", 64)} {
		require.NoError(t, criu.ValidateHostname(good), good)
	}
	for _, bad := range []string{"", "-web", "web-", "web..org", ".web", "web.", "we b", "wéb", "web\n", "a/b", strings.Repeat("x", 65)} {
		require.Error(t, criu.ValidateHostname(bad), bad)
	}
}
