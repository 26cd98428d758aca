package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// How long operations may take unless `timeouts` says otherwise.
const (
	createTimeout = 30 * time.Minute
	readTimeout   = 2 * time.Minute
	deleteTimeout = 10 * time.Minute
)

// snapshotResource is `criu_snapshot`. Its identity is the ref; which content it published there is told by the digest.
type snapshotResource struct {
	backends *backends
}

var (
	_ resource.ResourceWithConfigure      = (*snapshotResource)(nil)
	_ resource.ResourceWithValidateConfig = (*snapshotResource)(nil)
	_ resource.ResourceWithModifyPlan     = (*snapshotResource)(nil)
	_ resource.ResourceWithImportState    = (*snapshotResource)(nil)
)

func newSnapshotResource() resource.Resource { return &snapshotResource{} }

func (r *snapshotResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_snapshot"
}

func (r *snapshotResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	var err error
	if r.backends, err = backendsFrom(req.ProviderData); err != nil {
		resp.Diagnostics.AddError("Provider Not Configured", err.Error())
	}
}

// Create builds the snapshot of the image that was planned and publishes it, in place of what its ref leads to, if anything:
// with create_before_destroy that may be the predecessor, which is destroyed later.
func (r *snapshotResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan snapshotModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	timeout, diags := plan.Timeouts.Create(ctx, createTimeout)
	resp.Diagnostics.Append(diags...)
	opts, diags := plan.options(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	result, err := r.build(ctx, &plan, opts)
	if err != nil {
		resp.Diagnostics.Append(buildError(err))
		return
	}
	for _, w := range result.Warnings {
		resp.Diagnostics.AddWarning("Snapshot Built With a Warning", w)
	}
	resp.Diagnostics.Append(plan.setPublished(ctx, result.Ref, result.Manifest.Digest, result.Config)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// build opens what a build works on, and builds.
func (r *snapshotResource) build(ctx context.Context, plan *snapshotModel, opts build.Options) (*build.Result, error) {
	s, err := r.backends.openStore(ctx, plan.Store)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	eng, err := r.backends.openEngine(ctx)
	if err != nil {
		return nil, err
	}
	defer eng.Close()

	opts.ImageID = digest.Digest(plan.ImageID.ValueString()) // "" if it was not known when planning
	if opts.Pull.RegistryAuth, err = pullAuth(ctx, eng, opts.Spec.Config.Image); err != nil {
		return nil, err
	}
	target, err := build.Resolve(ctx, eng, opts)
	if err != nil {
		return nil, err
	}
	if !r.backends.claim(s, target.Ref) {
		return nil, fmt.Errorf("%s in %s: %w", target.Ref, s.URL(), errDescribedTwice)
	}
	opts.Store = s
	opts.Force = true
	opts.OnEvent = func(e build.Event) {
		tflog.Debug(ctx, "build", map[string]any{
			"step": e.Step, "message": e.Message, "current": e.Current, "total": e.Total, "done": e.Done, "elapsed": e.Elapsed.String(),
		})
	}
	result, err := build.Snapshot(ctx, eng, opts)
	if err := r.backends.sweepAgain(ctx, s); err != nil { // no reason to fail a build: the next deletion tries again
		tflog.Warn(ctx, "content left behind", map[string]any{"store": s.URL(), "error": err.Error()})
	}
	return result, err
}

// errDescribedTwice: see backends.claim.
var errDescribedTwice = errors.New("another resource of this configuration describes the same snapshot, and a ref belongs to one " +
	"resource: remove one of the two and refer to the other, or tell them apart by what clones are started with, such as command or env")

func describedTwice(err error) diag.Diagnostic {
	return diag.NewErrorDiagnostic("Two Resources Describe the Same Snapshot", err.Error())
}

// buildError tells why a snapshot was not built, and what to do if that is known.
func buildError(err error) diag.Diagnostic {
	switch {
	case errors.Is(err, build.ErrImageMoved):
		return diag.NewAttributeErrorDiagnostic(path.Root("image"), "Image Changed Since the Plan", err.Error()+". Nothing was built; plan again.")
	case errors.Is(err, errDescribedTwice):
		return describedTwice(err)
	case errors.Is(err, store.ErrConflict):
		return diag.NewErrorDiagnostic("Snapshot Not Published", err.Error()+". Nothing was overwritten; apply again.")
	case errors.Is(err, fs.ErrPermission):
		return diag.NewErrorDiagnostic("Snapshot Not Built", err.Error()+". Building needs root, so run Terraform as root.")
	default:
		return diag.NewErrorDiagnostic("Snapshot Not Built", err.Error())
	}
}

// Read looks the snapshot up. It is gone when its ref is gone, leads to another's publication, or leads to content
// that is not there; every other failure is an error, so that a store that is down takes nothing out of the state.
func (r *snapshotResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state snapshotModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	s, err := r.backends.openStore(ctx, state.Store)
	if err != nil {
		resp.Diagnostics.AddError("Store Cannot Be Opened", err.Error())
		return
	}
	defer s.Close()
	found, err := lookUp(ctx, s, state.Ref.ValueString())
	if errors.Is(err, store.ErrNotFound) {
		resp.Diagnostics.AddWarning("Snapshot Gone", err.Error()+". It is planned again.")
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Snapshot Cannot Be Read", err.Error())
		return
	}
	if now := found.entry.Manifest.Digest.String(); !state.Digest.IsNull() && state.Digest.ValueString() != now {
		resp.Diagnostics.AddWarning("Snapshot Replaced by Another Build", fmt.Sprintf(
			"%s in %s leads to %s, published %s, instead of %s. It is planned again; a ref belongs to one resource.",
			state.Ref.ValueString(), s.URL(), now, found.entry.Updated.UTC().Format(time.RFC3339), state.Digest.ValueString()))
		resp.State.RemoveResource(ctx)
		return
	}
	if state.Image.IsNull() { // just imported
		state.Image = types.StringValue(found.config.Image.Reference)
	}
	resp.Diagnostics.Append(state.setPublished(ctx, found.ref, found.entry.Manifest.Digest, found.config)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &state)...)
}

// Update notes what changes nothing in the snapshot: timeouts, or another way to write the same. ModifyPlan sees to it that
// everything else replaces.
func (r *snapshotResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan snapshotModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// Delete removes the ref if it still leads to what this resource published, and the content that no ref leads to any more.
func (r *snapshotResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state snapshotModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Delete(ctx, deleteTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	s, err := r.backends.openStore(ctx, state.Store)
	if err != nil {
		resp.Diagnostics.AddError("Store Cannot Be Opened", err.Error())
		return
	}
	defer s.Close()
	if err := deleteRef(ctx, s, state.Ref.ValueString(), state.Digest.ValueString()); err != nil {
		resp.Diagnostics.AddError("Snapshot Not Deleted", err.Error())
		return
	}
	swept, err := r.backends.sweep(ctx, s)
	if err != nil {
		resp.Diagnostics.AddWarning("Content Left Behind", "The snapshot is deleted, but its content could not be removed from the store. "+
			"The next deletion removes it. "+err.Error())
		return
	}
	tflog.Info(ctx, "swept", map[string]any{"store": s.URL(), "blobs": swept.Blobs, "bytes": swept.Bytes, "busy": swept.Busy})
}

// ImportState takes `REF` of the provider's store, or `STORE#REF`.
func (r *snapshotResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	url, name := types.StringNull(), req.ID
	if i := strings.LastIndex(req.ID, "#"); i >= 0 {
		url, name = types.StringValue(req.ID[:i]), req.ID[i+1:]
	}
	ref, err := snapshot.ParseRef(name)
	if err == nil && !url.IsNull() {
		err = checkStoreURL(url.ValueString())
	}
	if err == nil {
		url, err = r.backends.storeFor(url)
	}
	if err != nil {
		resp.Diagnostics.AddError("Unusable Import ID", fmt.Sprintf("%q: want REF or STORE#REF: %s", req.ID, err))
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("store"), url)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), ref.String())...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("ref"), ref.String())...)
}
