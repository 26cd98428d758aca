package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// counting counts the requests for layers.
type counting struct {
	store.Store
	stats int
}

func (c *counting) StatBlob(ctx context.Context, dgst digest.Digest) (int64, error) {
	c.stats++
	return c.Store.StatBlob(ctx, dgst)
}

// put stores a blob.
func put(t *testing.T, st store.Store, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	if _, err := st.PutBlob(t.Context(), desc, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return desc
}

// publish makes a snapshot that consists of layers, and returns its ref.
func publish(t *testing.T, st store.Store, layers []ocispec.Descriptor) string {
	t.Helper()
	config, err := json.Marshal(snapshot.Config{})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: snapshot.ArtifactType,
		Config: put(t, st, snapshot.MediaTypeConfig, config), Layers: layers,
	})
	if err != nil {
		t.Fatal(err)
	}
	ref := snapshot.Ref{Image: digest.FromString("image"), Fingerprint: "0123456789abcdef", Arch: "amd64"}.String()
	if err := st.PutRef(t.Context(), ref, put(t, st, ocispec.MediaTypeImageManifest, manifest), ""); err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestLookUpIsBounded: what a refresh costs does not depend on how large the snapshot is.
func TestLookUpIsBounded(t *testing.T) {
	s := directory(t)
	s.open(t, func(ctx context.Context, st store.Store) error {
		var layers []ocispec.Descriptor
		for i := range byte(100) {
			layers = append(layers, put(t, st, snapshot.MediaTypeRootfs, []byte{i}))
		}
		ref := publish(t, st, layers)
		c := &counting{Store: st}
		if _, err := lookUp(ctx, c, ref); err != nil {
			return err
		}
		if c.stats != sampled {
			t.Errorf("%d requests for layers, want %d", c.stats, sampled)
		}
		for _, lost := range []ocispec.Descriptor{layers[0], layers[len(layers)-1]} {
			file := filepath.Join(s.url, "blobs/sha256", lost.Digest.Encoded())
			if err := os.Rename(file, file+".lost"); err != nil {
				return err
			}
			if _, err := lookUp(ctx, st, ref); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("without a layer: %v", err)
			}
			if err := os.Rename(file+".lost", file); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestOneBadRefHidesNoOther: a listing has what can be read.
func TestOneBadRefHidesNoOther(t *testing.T) {
	s := directory(t)
	var ref string
	s.open(t, func(_ context.Context, st store.Store) error {
		ref = publish(t, st, nil)
		return os.WriteFile(filepath.Join(s.url, "refs", filepath.Dir(ref), "bad"), []byte("no descriptor"), 0o600)
	})
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: "provider \"criu\" {\n store = \"" + s.url + "\"\n}\n" +
			"data \"criu_snapshots\" \"all\" {}\n" +
			"data \"criu_snapshot\" \"by_image\" {\n image_id = \"" + digest.FromString("image").String() + "\"\n}\n",
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue(all, attribute("snapshots"), knownvalue.ListSizeExact(1)),
			statecheck.ExpectKnownValue("data.criu_snapshot.by_image", attribute("ref"), knownvalue.StringExact(ref)),
		},
	}}})
}
