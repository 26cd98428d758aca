package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/docker/docker/client"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// errNoStore means that neither the resource, nor the provider, nor the environment names a store.
var errNoStore = errors.New("no store is configured: set `store` in the provider block or the resource, or " + storeVariable +
	" in the environment, to gs://BUCKET[/PREFIX] or the absolute path of a directory")

// backends opens what resources and data sources work on: the Docker Engine and stores. Either address may be unknown while
// Terraform plans, when it comes from something that is yet to be created.
type backends struct {
	host  types.String // null: the engine's own default
	store types.String // null: every resource names its own

	untrusted bool // stores that others may write to are used

	// planned holds STORE#REF of what this run of Terraform plans, with the resource's mark; claimed of what it creates.
	planned, claimed sync.Map

	sweeping sync.Mutex
	unswept  map[string]bool // by store: a sweep found it busy; guarded by sweeping
}

// claim notes that a resource publishes to a ref. It is false when another one has claimed that in the same run: then two
// resources describe one snapshot, and each apply would make one of them take it from the other.
func (b *backends) claim(s store.Store, ref snapshot.Ref) bool {
	_, taken := b.claimed.LoadOrStore(claimKey(s.URL(), ref.String()), true)
	return !taken
}

// plan is claim for what is only planned, once or twice for the same resource, which is told by its mark.
func (b *backends) plan(storeURL, ref, mark string) bool {
	owner, _ := b.planned.LoadOrStore(claimKey(storeURL, ref), mark)
	return owner == mark
}

func claimKey(storeURL, ref string) string {
	if canonical, err := store.Canonical(storeURL); err == nil {
		storeURL = canonical
	}
	return storeURL + "#" + ref
}

// sweep removes the content of a store that no ref leads to. Destroys of several snapshots run at the same time, but a store is
// swept by one at a time, so they take turns, and the last one sees what all of them have left.
func (b *backends) sweep(ctx context.Context, s store.Store) (store.Swept, error) {
	b.sweeping.Lock()
	defer b.sweeping.Unlock()
	swept, err := s.Sweep(ctx)
	if err == nil && swept.Busy {
		if b.unswept == nil {
			b.unswept = map[string]bool{}
		}
		b.unswept[s.URL()] = true
	}
	return swept, err
}

// sweepAgain makes up for a sweep that found the store busy, perhaps with the publication that has just ended.
func (b *backends) sweepAgain(ctx context.Context, s store.Store) error {
	b.sweeping.Lock()
	owed := b.unswept[s.URL()]
	delete(b.unswept, s.URL())
	b.sweeping.Unlock()
	if !owed {
		return nil
	}
	_, err := b.sweep(ctx, s)
	return err
}

// engineKnown reports whether the engine's address is known already.
func (b *backends) engineKnown() bool { return !b.host.IsUnknown() }

// openEngine connects to the Docker Engine; the caller closes it.
func (b *backends) openEngine(ctx context.Context) (*engine.Engine, error) {
	if host := os.Getenv(client.EnvOverrideHost); host != "" && b.host.IsNull() {
		if err := checkDockerHost(host); err != nil {
			return nil, fmt.Errorf("%s = %q: %w", client.EnvOverrideHost, host, err)
		}
	}
	return engine.Connect(ctx, b.host.ValueString())
}

// storeFor returns the address that holds for a resource that configures the given one: that, or the provider's. It is
// unknown while either of them is.
func (b *backends) storeFor(configured types.String) (types.String, error) {
	if !configured.IsNull() {
		return configured, nil
	}
	if b.store.IsNull() {
		return types.StringNull(), errNoStore
	}
	return b.store, nil
}

// openStore opens the store that a resource configures, or the provider's; the caller closes it.
func (b *backends) openStore(ctx context.Context, configured types.String) (store.Store, error) {
	url, err := b.storeFor(configured)
	if err != nil {
		return nil, err
	}
	if url.IsUnknown() {
		return nil, errors.New("the store's address is not known yet: it depends on something that is not created yet")
	}
	open := store.Open
	if b.untrusted {
		open = func(ctx context.Context, url string) (store.Store, error) {
			return store.OpenUntrusted(ctx, url, func(error) {}) // Configure has warned of it
		}
	}
	s, err := open(ctx, url.ValueString())
	if errors.Is(err, store.ErrUntrusted) {
		err = fmt.Errorf("%w; the provider's allow_untrusted_stores overrules this", err)
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", url.ValueString(), err)
	}
	return s, nil
}

// backendsFrom takes the backends out of what Terraform hands to Configure of a resource or data source. It is nil, and no
// error, while the provider is not configured yet (during validation).
func backendsFrom(providerData any) (*backends, error) {
	if providerData == nil {
		return nil, nil
	}
	b, ok := providerData.(*backends)
	if !ok {
		return nil, fmt.Errorf("provider data is %T, want *backends: this is a bug of the provider", providerData)
	}
	return b, nil
}
