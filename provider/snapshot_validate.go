package main

import (
	"context"
	"fmt"
	"path"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	tfpath "github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// nomadMounts are where Nomad mounts a task's directories; `nomad = true` adds them.
var nomadMounts = []string{"/alloc", "/local", "/secrets"}

// ValidateConfig checks what several attributes say together. What is not known yet is taken to be right.
func (r *snapshotResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config snapshotModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(config.checkMounts(ctx)...)
	resp.Diagnostics.Append(config.checkWarmUp(ctx)...)
}

func (m *snapshotModel) checkMounts(ctx context.Context) diag.Diagnostics {
	var diags diag.Diagnostics
	taken := map[string]bool{}
	if m.Nomad.ValueBool() {
		for _, dest := range nomadMounts {
			taken[dest] = true
		}
	}
	for _, element := range m.Mounts.Elements() {
		var mnt mountModel
		if !decodeKnown(ctx, element, &mnt, &diags) {
			continue
		}
		at := tfpath.Root("mounts").AtSetValue(element)
		if dest := mnt.Destination.ValueString(); dest != "" {
			if dest = path.Clean(dest); taken[dest] {
				diags.AddAttributeError(at.AtName("destination"), "Destination Taken",
					fmt.Sprintf("There is a second mount at %s, perhaps from `nomad = true`; each destination can be mounted only once.", dest))
			}
			taken[dest] = true
		}
		if err := checkMountSource(mnt.Type, mnt.Source); err != nil {
			diags.AddAttributeError(at.AtName("source"), "Mount Source Does Not Fit Its Type", err.Error())
		}
	}
	return diags
}

func checkMountSource(kind, source types.String) error {
	if kind.IsUnknown() || source.IsUnknown() {
		return nil
	}
	switch src := source.ValueString(); kind.ValueString() {
	case mountBind:
		if !path.IsAbs(src) {
			return fmt.Errorf("source = %q: a bind mount needs the absolute path of a file or directory on this machine", src)
		}
	case mountVolume:
		if path.IsAbs(src) {
			return fmt.Errorf("source = %q: a volume is named, a path belongs to a mount of type %q", src, mountBind)
		}
	case mountTmpfs:
		if src != "" {
			return fmt.Errorf("source = %q: a tmpfs has none", src)
		}
	}
	return nil
}

func (m *snapshotModel) checkWarmUp(ctx context.Context) diag.Diagnostics {
	var diags diag.Diagnostics
	if len(m.WarmUp.Elements()) == 0 || m.probePort() {
		return nil
	}
	for i, element := range m.WarmUp.Elements() {
		var request warmUpModel
		if decodeKnown(ctx, element, &request, &diags) && request.Port.IsNull() {
			diags.AddAttributeError(tfpath.Root("warm_up").AtListIndex(i).AtName("port"), "Missing Port",
				"Set port, as `ready` has neither `http` nor `tcp` to take it from.")
		}
	}
	return diags
}

// probePort reports whether the readiness probe has a port that warm-up requests can take, or may turn out to have one.
func (m *snapshotModel) probePort() bool {
	if m.Ready.IsUnknown() {
		return true
	}
	probes := m.Ready.Attributes()
	return !probes["http"].IsNull() || !probes["tcp"].IsNull()
}

// decodeKnown decodes an element of a collection unless the element as a whole is unknown.
func decodeKnown(ctx context.Context, element attr.Value, target any, diags *diag.Diagnostics) bool {
	object, ok := element.(types.Object)
	if !ok || object.IsNull() || object.IsUnknown() {
		return false
	}
	more := object.As(ctx, target, basetypes.ObjectAsOptions{})
	diags.Append(more...)
	return !more.HasError()
}
