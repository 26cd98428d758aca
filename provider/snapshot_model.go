package main

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// snapshotModel is `criu_snapshot` in configuration, plan and state.
type snapshotModel struct {
	Store    types.String   `tfsdk:"store"`
	Triggers types.Map      `tfsdk:"triggers"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`

	Image       types.String `tfsdk:"image"`
	Entrypoint  types.List   `tfsdk:"entrypoint"`
	Command     types.List   `tfsdk:"command"`
	Env         types.Map    `tfsdk:"env"`
	User        types.String `tfsdk:"user"`
	WorkingDir  types.String `tfsdk:"working_dir"`
	Hostname    types.String `tfsdk:"hostname"`
	Ports       types.Set    `tfsdk:"ports"`
	Mounts      types.Set    `tfsdk:"mounts"`
	NetworkMode types.String `tfsdk:"network_mode"`
	Nomad       types.Bool   `tfsdk:"nomad"`
	Profile     types.Bool   `tfsdk:"profile"`
	Security    types.Object `tfsdk:"security"`
	Resources   types.Object `tfsdk:"resources"`
	CPU         types.String `tfsdk:"cpu"`

	Ready      types.Object `tfsdk:"ready"`
	WarmUp     types.List   `tfsdk:"warm_up"`
	Hooks      types.Object `tfsdk:"hooks"`
	Checkpoint types.Object `tfsdk:"checkpoint"`

	ID           types.String `tfsdk:"id"`
	Ref          types.String `tfsdk:"ref"`
	ImageID      types.String `tfsdk:"image_id"`
	Digest       types.String `tfsdk:"digest"`
	Architecture types.String `tfsdk:"architecture"`
	CreatedAt    types.String `tfsdk:"created_at"`
	Sizes        types.Object `tfsdk:"sizes"`
	Generators   types.List   `tfsdk:"random_generators"`
	Risks        types.List   `tfsdk:"risks"`
	Timings      types.Map    `tfsdk:"timings"`
}

// described reports whether everything that describes the snapshot is known, so that options can be made of it.
func (m *snapshotModel) described(ctx context.Context) (bool, error) {
	for _, v := range []attr.Value{
		m.Triggers, m.Image, m.Entrypoint, m.Command, m.Env, m.User, m.WorkingDir, m.Hostname, m.Ports, m.Mounts,
		m.NetworkMode, m.Nomad, m.Security, m.Resources, m.CPU, m.Ready, m.WarmUp, m.Hooks, m.Checkpoint,
	} {
		tf, err := v.ToTerraformValue(ctx)
		if err != nil {
			return false, err
		}
		if !tf.IsFullyKnown() {
			return false, nil
		}
	}
	return true, nil
}

// imported reports whether the state was imported and has not been applied since: a published snapshot does not say how
// readiness was found out, and that is the one attribute that a configuration cannot leave out.
func (m *snapshotModel) imported() bool { return m.Ready.IsNull() }

// setRef notes which snapshot this is; it is known when planning already.
func (m *snapshotModel) setRef(ref snapshot.Ref) {
	m.ID = types.StringValue(ref.String())
	m.Ref = types.StringValue(ref.String())
	m.ImageID = types.StringValue(ref.Image.String())
	m.Architecture = types.StringValue(ref.Arch)
}

// setUnknownRef notes that the snapshot's name will be known after apply.
func (m *snapshotModel) setUnknownRef() {
	m.ID, m.Ref = types.StringUnknown(), types.StringUnknown()
	m.ImageID, m.Architecture = types.StringUnknown(), types.StringUnknown()
}

// setPublished notes what is known of a snapshot once it is published.
func (m *snapshotModel) setPublished(ctx context.Context, ref snapshot.Ref, manifest digest.Digest, config snapshot.Config) diag.Diagnostics {
	m.setRef(ref)
	m.Digest = types.StringValue(manifest.String())
	m.CreatedAt = types.StringValue(config.Created.UTC().Format(time.RFC3339))
	var diags diag.Diagnostics
	m.Sizes, diags = sizesValue(ctx, config.Sizes)
	timings, more := timingsValue(ctx, config.Timings)
	m.Timings = timings
	diags.Append(more...)
	m.Generators, more = stringList(ctx, config.Generators)
	diags.Append(more...)
	m.Risks, more = risksValue(ctx, config.Risks())
	diags.Append(more...)
	return diags
}

// riskModel is an element of `risks`.
type riskModel struct {
	Kind    string   `tfsdk:"kind"`
	Message string   `tfsdk:"message"`
	Items   []string `tfsdk:"items"`
	See     string   `tfsdk:"see"`
}

var riskType = types.ObjectType{AttrTypes: map[string]attr.Type{
	"kind":    types.StringType,
	"message": types.StringType,
	"items":   types.ListType{ElemType: types.StringType},
	"see":     types.StringType,
}}

func risksValue(ctx context.Context, risks []snapshot.Risk) (types.List, diag.Diagnostics) {
	list := make([]riskModel, len(risks))
	for i, r := range risks {
		list[i] = riskModel(r)
		list[i].Items = append([]string{}, r.Items...) // empty rather than null
	}
	return types.ListValueFrom(ctx, riskType, list)
}

// sizesModel is `sizes`, in bytes.
type sizesModel struct {
	Memory     int64 `tfsdk:"memory"`
	Checkpoint int64 `tfsdk:"checkpoint"`
	Rootfs     int64 `tfsdk:"rootfs"`
	Packed     int64 `tfsdk:"packed"`
}

var sizesType = map[string]attr.Type{
	"memory":     types.Int64Type,
	"checkpoint": types.Int64Type,
	"rootfs":     types.Int64Type,
	"packed":     types.Int64Type,
}

func sizesValue(ctx context.Context, s snapshot.Sizes) (types.Object, diag.Diagnostics) {
	return types.ObjectValueFrom(ctx, sizesType, sizesModel{
		Memory: s.Memory, Checkpoint: s.Checkpoint, Rootfs: s.Rootfs, Packed: s.Packed,
	})
}

// timingsValue is `timings`: step → seconds.
func timingsValue(ctx context.Context, timings []snapshot.Timing) (types.Map, diag.Diagnostics) {
	seconds := make(map[string]float64, len(timings))
	for _, t := range timings {
		seconds[t.Step] += t.Elapsed.Seconds()
	}
	return types.MapValueFrom(ctx, types.Float64Type, seconds)
}
