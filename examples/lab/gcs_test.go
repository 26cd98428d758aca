package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
)

// startGCS runs the lab's emulator and returns a client of it.
func startGCS(t *testing.T) *storage.BucketHandle {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serveGCS(ctx, address, t.TempDir(), "snapshots") }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	ready := probe{Network: "tcp", Address: address, URL: "http://" + address + "/storage/v1/b/snapshots"}
	waitUntil(t, "the bucket answers", func() bool { return ready.check(ctx) == nil })
	t.Setenv("STORAGE_EMULATOR_HOST", "http://"+address)
	client, err := storage.NewClient(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client.Bucket("snapshots")
}

func put(t *testing.T, object *storage.ObjectHandle, content string) int64 {
	t.Helper()
	w := object.NewWriter(t.Context())
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Attrs().Generation
}

func TestEmulatorRefusesWhatTheServiceRefuses(t *testing.T) {
	bucket := startGCS(t)
	ctx := t.Context()
	object := bucket.Object("refs/a")
	first := put(t, object, "one")
	second := put(t, object, "two")
	if first == second {
		t.Fatalf("two writes have one generation %d", first)
	}
	stale := object.If(storage.Conditions{GenerationMatch: first})
	for name, attempt := range map[string]func() error{
		"delete": func() error { return stale.Delete(ctx) },
		"update": func() error {
			_, err := stale.Update(ctx, storage.ObjectAttrsToUpdate{ContentType: "text/plain"})
			return err
		},
		"attributes": func() error { _, err := stale.Attrs(ctx); return err },
		"create": func() error {
			w := object.If(storage.Conditions{DoesNotExist: true}).NewWriter(ctx)
			_, err := w.Write([]byte("three"))
			return errors.Join(err, w.Close())
		},
		"copy": func() error {
			_, err := stale.CopierFrom(bucket.Object("refs/a")).Run(ctx)
			return err
		},
	} {
		var failure *googleapi.Error
		if err := attempt(); !errors.As(err, &failure) || failure.Code != http.StatusPreconditionFailed {
			t.Errorf("%s of an older generation: %v, want 412", name, err)
		} else if name != "create" && !strings.Contains(failure.Message, "ifGenerationMatch") {
			t.Errorf("%s: the message doesn't name the condition: %s", name, failure.Message)
		}
	}
	if err := object.If(storage.Conditions{GenerationMatch: second}).Delete(ctx); err != nil {
		t.Errorf("delete of the present generation: %v", err)
	}
	if _, err := object.Attrs(ctx); !errors.Is(err, storage.ErrObjectNotExist) {
		t.Errorf("after its delete the object has attributes: %v", err)
	}
}
