package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/spf13/cobra"
)

// The bucket emulator listens on the first node's address in the lab's network, which every node reaches; no process
// outside of the lab does.
const (
	gcsAddress = "10.211.0.1:4443"
	gcsBucket  = "snapshots"
)

func fakeGCS() service {
	return service{
		Name:  "gcs",
		Argv:  []string{"/lab/bin/lab", "fake-gcs", "--address", gcsAddress, "--root", "/var/lib/fake-gcs", "--bucket", gcsBucket},
		Probe: probe{Network: "tcp", Address: gcsAddress, URL: "http://" + gcsAddress + "/storage/v1/b/" + gcsBucket},
	}
}

func fakeGCSCommand() *cobra.Command {
	var address, root, bucket string
	cmd := &cobra.Command{
		Use:    "fake-gcs",
		Short:  "Emulate Google Cloud Storage (started by the node's init)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return serveGCS(ctx, address, root, bucket)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1:4443", "address to listen on, and the name that clients use")
	cmd.Flags().StringVar(&root, "root", "", "directory that holds the buckets")
	cmd.Flags().StringVar(&bucket, "bucket", "", "bucket to create")
	return cmd
}

// serveGCS runs the emulator, with buckets on disk, until ctx ends.
func serveGCS(ctx context.Context, address, root, bucket string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("directory of the buckets: %w", err)
	}
	emulator, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener:  true, // served below, behind the checks that the emulator lacks
		Scheme:      "http",
		StorageRoot: root,
		PublicHost:  address, // or downloads by path say that the object doesn't exist
		ExternalURL: "http://" + address,
	})
	if err != nil {
		return fmt.Errorf("bucket emulator on %s: %w", root, err)
	}
	emulator.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	server := &http.Server{
		Addr:              address,
		Handler:           enforcePreconditions(emulator.HTTPHandler()),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		<-ctx.Done()
		// Requests that are under way lose their connection, as they do when a real service goes away.
		_ = server.Close()
	}()
	slog.Info("bucket emulator", "address", address, "root", root, "bucket", bucket)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("bucket emulator: %w", err)
	}
	return nil
}
