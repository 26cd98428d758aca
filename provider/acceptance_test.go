package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloud.google.com/go/storage"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"google.golang.org/api/iterator"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/store"
)

// The acceptance tests run the real terraform, Docker, CRIU and stores of the lab, with the provider in this process where it does not have to be killed.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == binary { // started by a Terraform that a test started, see project
		main()
		return
	}
	for name, value := range map[string]string{
		"TF_ACC":             "1", // without it, plugin-testing skips
		"CHECKPOINT_DISABLE": "1", // no look-up of newer versions
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

const (
	// baseImage serves HTTP on port 80 within milliseconds.
	baseImage = "tiny:lab"
	bucket    = "snapshots"
)

// run runs the steps of an acceptance test, and a destroy at its end.
func run(t *testing.T, tc resource.TestCase) {
	t.Helper()
	tc.ProtoV6ProviderFactories = map[string]func() (tfprotov6.ProviderServer, error){
		"criu": providerserver.NewProtocol6WithError(newProvider("test")()),
	}
	resource.Test(t, tc)
}

// onEachStore runs a test once on a directory and once on a bucket. The store is empty, and has to be empty after the test:
// everything that Terraform published, it has to destroy.
func onEachStore(t *testing.T, test func(t *testing.T, s testStore)) {
	for _, newStore := range []func(*testing.T) testStore{directory, bucketPrefix} {
		s := newStore(t)
		t.Run(s.name, func(t *testing.T) {
			test(t, s)
			if left := s.objects(t); len(left) > 0 {
				t.Errorf("left in %s after destroy: %s", s.url, strings.Join(left, ", "))
			}
		})
	}
}

// testStore is a store of a test's own.
type testStore struct {
	name string
	url  string
	// objects lists the keys of refs and blobs.
	objects func(*testing.T) []string
}

func directory(t *testing.T) testStore {
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return testStore{name: "directory", url: dir, objects: func(t *testing.T) []string {
		t.Helper()
		var keys []string
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if key, err := filepath.Rel(dir, path); err == nil && isContent(key) {
				keys = append(keys, key)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}}
}

// bucketPrefix is a part of the lab's bucket. The lab exports STORAGE_EMULATOR_HOST.
func bucketPrefix(*testing.T) testStore {
	prefix := "provider-test/" + unique() + "/"
	return testStore{name: "bucket", url: "gs://" + bucket + "/" + strings.TrimSuffix(prefix, "/"), objects: func(t *testing.T) []string {
		t.Helper()
		client, err := storage.NewClient(t.Context(), storage.WithJSONReads())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		var keys []string
		for it := client.Bucket(bucket).Objects(t.Context(), &storage.Query{Prefix: prefix}); ; {
			attrs, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return keys
			}
			if err != nil {
				t.Fatal(err)
			}
			if key := strings.TrimPrefix(attrs.Name, prefix); isContent(key) {
				keys = append(keys, key)
			}
		}
	}}
}

func isContent(key string) bool {
	return strings.HasPrefix(key, "refs/") || strings.HasPrefix(key, "blobs/")
}

// refs lists the names of the snapshots in a store.
func (s testStore) refs(t *testing.T) []string {
	t.Helper()
	var names []string
	s.open(t, func(ctx context.Context, st store.Store) error {
		entries, err := st.ListRefs(ctx, "")
		for _, e := range entries {
			names = append(names, e.Name)
		}
		return err
	})
	return names
}

// open lets do work on the store.
func (s testStore) open(t *testing.T, do func(ctx context.Context, st store.Store) error) {
	t.Helper()
	st, err := store.Open(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := do(t.Context(), st); err != nil {
		t.Fatal(err)
	}
}

func unique() string { return strings.ToLower(rand.Text()[:10]) }

// testImage is a tag of the test's own, which can be moved.
type testImage struct {
	eng *engine.Engine
	tag string
}

// newImage makes an image that is like no other, under a tag of its own; both are gone after the test.
func newImage(t *testing.T) testImage {
	t.Helper()
	eng, err := engine.Connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	img := testImage{eng: eng, tag: "provider-test-" + unique() + ":1"}
	t.Cleanup(func() {
		defer eng.Close()
		ctx := context.WithoutCancel(t.Context())
		if left := img.containers(ctx, t); len(left) > 0 {
			t.Errorf("containers left behind: %s", strings.Join(left, ", "))
		}
		if _, err := eng.Client.ImageRemove(ctx, img.tag, image.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	img.move(t)
	return img
}

// move lets the tag stand for a new image, and returns that one's id.
func (i testImage) move(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	old, oldErr := i.eng.Client.ImageInspect(ctx, i.tag)
	c, err := i.eng.Client.ContainerCreate(ctx, &container.Config{Image: baseImage}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.eng.Remove(ctx, c.ID); err != nil {
			t.Error(err)
		}
	}()
	content := []byte(unique())
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "version", Mode: 0o644, Size: int64(len(content))}),
		func() error { _, err := w.Write(content); return err }(),
		w.Close(),
		i.eng.Client.CopyToContainer(ctx, c.ID, "/", &layer, container.CopyToContainerOptions{}),
	); err != nil {
		t.Fatal(err)
	}
	committed, err := i.eng.Client.ContainerCommit(ctx, c.ID, container.CommitOptions{Reference: i.tag})
	if err != nil {
		t.Fatal(err)
	}
	if oldErr == nil { // untagged by the commit
		if _, err := i.eng.Client.ImageRemove(ctx, old.ID, image.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return committed.ID
}

// id is what the tag stands for.
func (i testImage) id(t *testing.T) string {
	t.Helper()
	img, err := i.eng.Client.ImageInspect(t.Context(), i.tag)
	if err != nil {
		t.Fatal(err)
	}
	return img.ID
}

// containers lists the containers of the image, donors in particular.
func (i testImage) containers(ctx context.Context, t *testing.T) []string {
	t.Helper()
	list, err := i.eng.Client.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("ancestor", i.tag)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, fmt.Sprintf("%.12s (%s)", c.ID, c.State))
	}
	return names
}

// planCheck is a plancheck.PlanCheck.
type planCheck func() error

// CheckPlan implements plancheck.PlanCheck.
func (f planCheck) CheckPlan(_ context.Context, _ plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	resp.Error = f()
}

// afterPlan lets something happen between plan and apply.
func afterPlan(do func()) plancheck.PlanCheck {
	return planCheck(func() error { do(); return nil })
}
