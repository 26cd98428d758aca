package main

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// decoder turns known values of Terraform into Go's, and collects what goes wrong. Null becomes the target's zero value.
type decoder struct {
	ctx   context.Context
	diags diag.Diagnostics
}

// object decodes into a struct with tfsdk tags.
func (d *decoder) object(v types.Object, target any) {
	if v.IsNull() {
		return
	}
	d.diags.Append(v.As(d.ctx, target, basetypes.ObjectAsOptions{})...)
}

// collection is a list, set or map.
type collection interface {
	IsNull() bool
	ElementsAs(ctx context.Context, target any, allowUnhandled bool) diag.Diagnostics
}

// elements decodes into a slice or map.
func (d *decoder) elements(v collection, target any) {
	if v.IsNull() {
		return
	}
	d.diags.Append(v.ElementsAs(d.ctx, target, false)...)
}

func (d *decoder) strings(v collection) []string {
	var list []string
	d.elements(v, &list)
	return list
}

func (d *decoder) stringMap(v collection) map[string]string {
	var m map[string]string
	d.elements(v, &m)
	return m
}

// duration parses a duration that may be absent.
func (d *decoder) duration(at path.Path, s types.String) time.Duration {
	if s.IsNull() {
		return 0
	}
	duration, err := time.ParseDuration(s.ValueString())
	if err != nil {
		d.diags.AddAttributeError(at, "Unusable duration", err.Error())
	}
	return duration
}
