package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"
)

// PullOptions say how an image that the engine lacks is fetched.
type PullOptions struct {
	Force        bool   // pull even when the engine has an image of that name
	RegistryAuth string // as registry.EncodeAuthConfig returns it; "" for none
	// OnProgress, if set, is told of the registry's progress messages; it must not block.
	OnProgress func(jsonmessage.JSONMessage)
}

// EnsureImage returns the image that ref (a name, an id, or a name with a digest) stands for, pulling it if the engine
// does not have it.
func (e *Engine) EnsureImage(ctx context.Context, ref string, opts PullOptions) (image.InspectResponse, error) {
	if !opts.Force {
		img, err := e.Client.ImageInspect(ctx, ref)
		if err == nil {
			return img, nil
		}
		if !IsNotFound(err) {
			return image.InspectResponse{}, fmt.Errorf("image %q: %w", ref, err)
		}
	}
	if err := e.pull(ctx, ref, opts); err != nil {
		return image.InspectResponse{}, fmt.Errorf("image %q is not on this engine and cannot be pulled: %w", ref, err)
	}
	img, err := e.Client.ImageInspect(ctx, ref)
	if err != nil {
		return image.InspectResponse{}, fmt.Errorf("image %q after pull: %w", ref, err)
	}
	return img, nil
}

// ImageStore names where the engine keeps an image: "containerd", or its storage driver, "overlay2" for one. The same image has another
// id in containerd's store, where that is the digest of its manifest, than in the other, where it is that of its configuration.
func ImageStore(img image.InspectResponse) string {
	if img.Descriptor != nil {
		return "containerd"
	}
	return img.GraphDriver.Name
}

func (e *Engine) pull(ctx context.Context, ref string, opts PullOptions) error {
	body, err := e.Client.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: opts.RegistryAuth})
	if err != nil {
		return err
	}
	defer body.Close()
	// The engine reports a failed pull as a message in the stream, with status 200.
	for dec := json.NewDecoder(body); ; {
		var m jsonmessage.JSONMessage
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != nil {
			return m.Error
		}
		if opts.OnProgress != nil {
			opts.OnProgress(m)
		}
	}
}
