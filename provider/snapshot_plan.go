package main

import (
	"context"
	"errors"
	"reflect"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
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
	resp.Diagnostics.Append(r.planRef(ctx, &plan, state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if state != nil {
		replace, diags := replacement(ctx, state, &plan)
		resp.Diagnostics.Append(diags...)
		resp.RequiresReplace = append(resp.RequiresReplace, replace...)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// planRef sets the plan's ref, and what is in it, or unknown where that depends on things that are not known yet.
//
// An existing snapshot of the same description is left as it is when the image cannot be resolved, with a warning: it can
// still be read, and destroyed, where there is no engine or when the image is gone.
func (r *snapshotResource) planRef(ctx context.Context, plan, state *snapshotModel) diag.Diagnostics {
	var diags diag.Diagnostics
	described, err := plan.described(ctx)
	if err != nil {
		diags.AddError("Plan Cannot Be Read", err.Error())
		return diags
	}
	if !described {
		plan.setUnknownRef()
		return diags
	}
	opts, diags := plan.options(ctx)
	unchanged := false
	if state != nil {
		was, more := state.options(ctx)
		diags.Append(more...)
		unchanged = reflect.DeepEqual(was, opts)
	}
	if diags.HasError() {
		return diags
	}
	if !r.backends.engineKnown() {
		if !unchanged {
			plan.setUnknownRef()
		}
		return diags
	}
	ref, err := r.resolve(ctx, opts)
	switch {
	case err == nil:
		plan.setRef(ref)
	case unchanged:
		diags.AddAttributeWarning(path.Root("image"), "Image Not Resolved",
			"Whether the image's name stands for another image now cannot be told, so the snapshot is left as it is: "+err.Error())
	case errors.Is(err, engine.ErrUnreachable):
		diags.AddError("No Docker Engine", err.Error())
	default:
		diags.AddAttributeError(path.Root("image"), "Image Cannot Be Resolved", err.Error())
	}
	return diags
}

// resolve returns the ref that a build would publish to, pulling the image if the engine lacks it.
func (r *snapshotResource) resolve(ctx context.Context, opts build.Options) (snapshot.Ref, error) {
	eng, err := r.backends.openEngine(ctx)
	if err != nil {
		return snapshot.Ref{}, err
	}
	defer eng.Close()
	if opts.Pull.RegistryAuth, err = pullAuth(ctx, eng, opts.Spec.Config.Image); err != nil {
		return snapshot.Ref{}, err
	}
	return build.Resolve(ctx, eng, opts)
}

// frozen lists the attributes that shape a snapshot without being part of its ref, and what a build makes of them. A
// difference there, unlike one in how a default is written, makes another snapshot.
var frozen = []struct {
	attribute string
	of        func(build.Options) any
}{
	{"hostname", func(o build.Options) any { return o.Spec.Config.Hostname }},
	{"ports", func(o build.Options) any { return o.Spec.Config.ExposedPorts }},
	{"mounts", func(o build.Options) any { return o.Spec.Host.Mounts }},
	{"network_mode", func(o build.Options) any { return o.Spec.Host.NetworkMode }},
	{"warm_up", func(o build.Options) any { return o.Warmup }},
	{"checkpoint", func(o build.Options) any { return o.Checkpoint }},
	{"ready", func(o build.Options) any {
		o.Ready.Interval, o.Ready.Timeout = 0, 0 // how patiently readiness is awaited is not frozen
		return o.Ready
	}},
}

// replacement returns the attributes that make the plan another snapshot than the state's.
func replacement(ctx context.Context, state, plan *snapshotModel) (path.Paths, diag.Diagnostics) {
	var replace path.Paths
	if !plan.Store.Equal(state.Store) {
		replace.Append(path.Root("store"))
	}
	if !plan.Ref.Equal(state.Ref) {
		replace.Append(path.Root("image_id"), path.Root("ref"))
	}
	// A configuration that resolves to the ref of an imported snapshot adopts that: what else was frozen, nobody can say.
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
	for _, f := range frozen {
		if !reflect.DeepEqual(f.of(was), f.of(will)) {
			replace.Append(path.Root(f.attribute))
		}
	}
	return replace, diags
}
