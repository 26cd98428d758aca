package main

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// parseRefFunction is `provider::criu::parse_ref`.
type parseRefFunction struct{}

var _ function.Function = parseRefFunction{}

func newParseRefFunction() function.Function { return parseRefFunction{} }

func (parseRefFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "parse_ref"
}

// parsedRef is what the function returns.
type parsedRef struct {
	ImageID      string `tfsdk:"image_id"`
	Fingerprint  string `tfsdk:"fingerprint"`
	Architecture string `tfsdk:"architecture"`
}

func (parseRefFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Takes a snapshot's ref apart",
		MarkdownDescription: "Takes a snapshot's ref, `IMAGE/FINGERPRINT/ARCHITECTURE`, apart and returns an object with `image_id` " +
			"(`sha256:…`), `fingerprint` (16 hex digits that stand for the run configuration) and `architecture`.",
		Parameters: []function.Parameter{function.StringParameter{
			Name:                "ref",
			MarkdownDescription: "A ref, as `criu_snapshot.….ref` holds it and `criu-docker ls` prints it.",
		}},
		Return: function.ObjectReturn{AttributeTypes: map[string]attr.Type{
			"image_id":     types.StringType,
			"fingerprint":  types.StringType,
			"architecture": types.StringType,
		}},
	}
}

func (parseRefFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var s string
	if resp.Error = req.Arguments.Get(ctx, &s); resp.Error != nil {
		return
	}
	ref, err := snapshot.ParseRef(s)
	if err != nil {
		resp.Error = function.NewArgumentFuncError(0, err.Error())
		return
	}
	resp.Error = resp.Result.Set(ctx, parsedRef{ImageID: ref.Image.String(), Fingerprint: ref.Fingerprint, Architecture: ref.Arch})
}
