package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// ModifyPlan resolves what the configuration stands for, the image's id and the snapshot's ref, so that the plan shows it
// and Create can hold on to it, and decides whether the snapshot has to be replaced.
func (r *snapshotResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() || r.backends == nil { // destroy, or the provider's configuration is not known
		return
	}
	var config, plan snapshotModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	url, err := r.backends.storeFor(config.Store)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("store"), "No Store", err.Error())
		return
	}
	plan.Store = url

	var state *snapshotModel
	if !req.State.Raw.IsNull() {
		state = &snapshotModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
	}
	imagePorts, diags := r.planRef(ctx, &plan, state)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(r.planAlone(ctx, &plan, req.Private, resp.Private)...)
	if state == nil || !sameStore(plan.Store, state.Store) {
		resp.Diagnostics.Append(r.checkStore(ctx, &plan)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	if state != nil {
		replace, diags := replacement(ctx, state, &plan, imagePorts)
		resp.Diagnostics.Append(diags...)
		resp.RequiresReplace = append(resp.RequiresReplace, replace...)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// markKey is where a resource's private data has its mark. Terraform does not say which resource a plan is of, and asks twice
// for one that is replaced.
const markKey = "mark"

// privateData is what Terraform keeps for the provider beside a resource's state.
type privateData interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// planAlone sees that no other resource of the configuration describes the same snapshot.
func (r *snapshotResource) planAlone(ctx context.Context, plan *snapshotModel, was, will privateData) diag.Diagnostics {
	if plan.Ref.IsUnknown() || plan.Store.IsUnknown() {
		return nil
	}
	mark, diags := was.GetKey(ctx, markKey)
	if mark == nil {
		mark = strconv.AppendQuote(nil, rand.Text())
		diags.Append(will.SetKey(ctx, markKey, mark)...)
	}
	if !r.backends.plan(plan.Store.ValueString(), plan.Ref.ValueString(), string(mark)) {
		diags.Append(describedTwice(fmt.Errorf("%s in %s: %w", plan.Ref.ValueString(), plan.Store.ValueString(), errDescribedTwice)))
	}
	return diags
}

// checkStore sees that the store of a new snapshot can be reached before anything is built: its bucket is there, and the
// machine may read it. A directory is made by the first publication.
func (r *snapshotResource) checkStore(ctx context.Context, plan *snapshotModel) (diags diag.Diagnostics) {
	if plan.Store.IsUnknown() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s, err := r.backends.openStore(ctx, plan.Store)
	if err == nil {
		defer s.Close()
		name := plan.Ref.ValueString()
		if plan.Ref.IsUnknown() {
			name = "any" // whether it is there or not: the store has answered
		}
		_, err = s.GetRef(ctx, name)
	}
	switch {
	case err == nil, errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoStore), errors.Is(err, store.ErrCorrupt):
	default:
		diags.AddAttributeError(path.Root("store"), "Store Cannot Be Used", err.Error())
	}
	return diags
}

// planRef sets the plan's ref, and what is in it, or unknown where that depends on things that are not known yet. It returns
// the ports that the image exposes, if it could be looked at.
//
// An existing snapshot of the same description is left as it is when the image cannot be resolved, with a warning: it can
// still be read, and destroyed, where there is no engine or when the image is gone.
func (r *snapshotResource) planRef(ctx context.Context, plan, state *snapshotModel) (imagePorts []string, diags diag.Diagnostics) {
	described, err := plan.described(ctx)
	if err != nil {
		diags.AddError("Plan Cannot Be Read", err.Error())
		return nil, diags
	}
	if !described {
		plan.setUnknownRef()
		return nil, diags
	}
	opts, diags := plan.options(ctx)
	unchanged := false
	if state != nil {
		was, more := state.options(ctx)
		diags.Append(more...)
		unchanged = reflect.DeepEqual(was, opts)
	}
	if diags.HasError() {
		return nil, diags
	}
	if !r.backends.engineKnown() {
		if !unchanged {
			plan.setUnknownRef()
		}
		return nil, diags
	}
	target, err := r.resolve(ctx, opts)
	switch {
	case err == nil:
		plan.setRef(target.Ref)
	case unchanged:
		diags.AddAttributeWarning(path.Root("image"), "Image Not Resolved",
			"It is not known whether the image's name stands for another image now, so the snapshot is left as it is: "+err.Error())
	case errors.Is(err, engine.ErrUnreachable):
		diags.AddError("No Docker Engine", err.Error())
	case errors.Is(err, build.ErrDescription):
		diags.AddError("Snapshot Cannot Be Described", err.Error())
	default:
		diags.AddAttributeError(path.Root("image"), "Image Cannot Be Resolved", err.Error())
	}
	return target.ImagePorts, diags
}

// resolve returns what a build would publish, pulling the image if the engine lacks it.
func (r *snapshotResource) resolve(ctx context.Context, opts build.Options) (build.Target, error) {
	eng, err := r.backends.openEngine(ctx)
	if err != nil {
		return build.Target{}, err
	}
	defer eng.Close()
	if opts.Pull.RegistryAuth, err = pullAuth(ctx, eng, opts.Spec.Config.Image); err != nil {
		return build.Target{}, err
	}
	return build.Resolve(ctx, eng, opts)
}

// frozen lists the attributes that shape a snapshot without being part of its ref, and what a build makes of them. A
// difference there, unlike one in how a default is written, makes another snapshot.
var frozen = []struct {
	attribute string
	of        func(build.Options) any
}{
	{"env", func(o build.Options) any { return perAllocation(o.Spec.Config.Env) }},
	{"hostname", func(o build.Options) any { return o.Spec.Config.Hostname }},
	{"mounts", func(o build.Options) any { return o.Spec.Host.Mounts }},
	{"cpu", func(o build.Options) any { return o.CPU }},
	{"resources", func(o build.Options) any { return limits(o.Spec.Host.Resources) }},
	{"network_mode", func(o build.Options) any { return networkMode(o.Spec.Host.NetworkMode) }},
	{"warm_up", func(o build.Options) any { return o.Warmup }},
	{"hooks", func(o build.Options) any { return o.Hooks }},
	{"checkpoint", func(o build.Options) any { return o.Checkpoint }},
	{"ready", func(o build.Options) any {
		o.Ready.Interval, o.Ready.Timeout = 0, 0 // how patiently readiness is awaited is not frozen
		return o.Ready
	}},
}

// limits returns what an app may have sized itself by. What else the engine's resources hold is part of the ref.
func limits(r container.Resources) any {
	return []any{r.Memory, r.NanoCPUs, r.CPUShares, r.CpusetCpus}
}

// perAllocation returns the variables that are left out of a ref. The donor has them all the same, and so has each clone.
func perAllocation(env []string) []string {
	var list []string
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); snapshot.PerAllocation(name) {
			list = append(list, kv)
		}
	}
	return list
}

// networkMode returns one spelling of the engine's default.
func networkMode(mode container.NetworkMode) container.NetworkMode {
	if mode == "" || mode.IsDefault() {
		return network.NetworkBridge
	}
	return mode
}

// allPorts returns what an app listens on as far as is known, sorted.
func allPorts(imagePorts []string, opts build.Options) []string {
	ports := slices.Clone(imagePorts)
	for port := range opts.Spec.Config.ExposedPorts {
		ports = append(ports, string(port))
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// sameStore reports whether two addresses are one store's.
func sameStore(a, b types.String) bool {
	if a.Equal(b) || a.IsUnknown() || b.IsUnknown() {
		return a.Equal(b)
	}
	one, err := store.Canonical(a.ValueString())
	if err != nil {
		return false
	}
	other, err := store.Canonical(b.ValueString())
	return err == nil && one == other
}

// replacement returns the attributes that make the plan another snapshot than the state's.
func replacement(ctx context.Context, state, plan *snapshotModel, imagePorts []string) (path.Paths, diag.Diagnostics) {
	var replace path.Paths
	if !sameStore(plan.Store, state.Store) {
		replace.Append(path.Root("store"))
	}
	if !plan.Ref.Equal(state.Ref) {
		replace.Append(path.Root("image_id"), path.Root("ref"))
	}
	// A configuration that resolves to the ref of an imported snapshot adopts that: what else was frozen is not known.
	if state.imported() {
		return replace, nil
	}
	if !plan.Triggers.Equal(state.Triggers) {
		replace.Append(path.Root("triggers"))
	}
	if described, err := plan.described(ctx); err != nil || !described {
		return replace, nil // the unknown ref replaces it already
	}
	was, diags := state.options(ctx)
	will, more := plan.options(ctx)
	diags.Append(more...)
	if diags.HasError() {
		return nil, diags
	}
	if !slices.Equal(allPorts(imagePorts, was), allPorts(imagePorts, will)) {
		replace.Append(path.Root("ports"))
	}
	for _, f := range frozen {
		if !reflect.DeepEqual(f.of(was), f.of(will)) {
			replace.Append(path.Root(f.attribute))
		}
	}
	return replace, diags
}
