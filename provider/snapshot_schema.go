package main

import (
	"context"
	"maps"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// Schema of `criu_snapshot`: what is published where (here), the container that is booted (snapshot_schema_run.go), and
// when and how it is frozen (snapshot_schema_freeze.go). What is computed keeps its value while nothing is rebuilt;
// ModifyPlan (snapshot_plan.go) decides when something is.
func (r *snapshotResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := map[string]schema.Attribute{
		"store": schema.StringAttribute{
			MarkdownDescription: "Store that this snapshot is published to: `gs://BUCKET[/PREFIX]` or the absolute path of a " +
				"directory. Default: the provider's. Moving a snapshot to another store replaces it.",
			Optional:   true,
			Computed:   true,
			Validators: []validator.String{storeURL()},
		},
		"triggers": schema.MapAttribute{
			MarkdownDescription: "Arbitrary values that replace the snapshot when they change: for what is frozen into memory but " +
				"does not show in the configuration, such as the version of the schema of a database.",
			ElementType: types.StringType,
			Optional:    true,
		},
		"timeouts": timeoutsAttribute(ctx),
	}
	maps.Copy(attributes, computedAttributes())
	maps.Copy(attributes, runAttributes())
	maps.Copy(attributes, freezeAttributes())

	resp.Schema = schema.Schema{
		MarkdownDescription: "A snapshot of a booted container: an image is booted in Docker exactly as configured here, proven " +
			"ready, warmed up, frozen and published to a store, under a name that is made of the image's id, a fingerprint of the " +
			"run configuration and the architecture (the *ref*). Containers that are started with the same image and run " +
			"configuration find it there.\n\n" +
			"The image's name is resolved when planning. When it stands for another image than the snapshot was made of, the plan " +
			"replaces the snapshot; with `create_before_destroy` the old one stays until the new one is published. A change that " +
			"leaves the run configuration as it was (writing out a default, say) rebuilds nothing.\n\n" +
			"A snapshot that has disappeared from the store is planned again. So is one whose ref was taken over by another " +
			"publication; destroying the resource leaves that one alone. A ref belongs to one resource: creating two that describe " +
			"the same snapshot is an error. A store that cannot be reached is an error.\n\n" +
			"~> **Memory holds secrets.** Whatever the booted process knows is in the snapshot: environment variables, " +
			"credentials, keys. Protect the store like the secrets themselves.",
		Attributes: attributes,
	}
}

func timeoutsAttribute(ctx context.Context) schema.Attribute {
	attribute := timeouts.Attributes(ctx, timeouts.Opts{
		Create: true,
		Read:   true,
		Delete: true,
		CreateDescription: "From pulling the image to publishing. Default `" + createTimeout.String() +
			"`. The boot alone is bounded by `ready.timeout`.",
		ReadDescription:   "Looking the snapshot up. Default `" + readTimeout.String() + "`.",
		DeleteDescription: "Deleting the snapshot. Default `" + deleteTimeout.String() + "`.",
	})
	if nested, ok := attribute.(schema.SingleNestedAttribute); ok {
		nested.MarkdownDescription = "How long operations may take: durations such as `90s` or `1h30m`."
		return nested
	}
	return attribute
}

const generatorsDescription = "Runtimes and libraries in the app that have random generators of their own, such as `OpenSSL` or `Ruby`. " +
	"Without a hook that seeds them anew, all clones give out the same values."

const risksDescription = "What a reviewer should know before the snapshot goes to production, as `criu-docker inspect` has it. `kind` is `secrets`, " +
	"`generators`, `hooks`, `mount_files`, `kept_files`, `addresses`, `cpu` or `losses`; `message` is a sentence, `items` are what it is about (names of variables, " +
	"paths, sockets), and `see` is a section of the manual."

// computedAttributes are what a published snapshot is known by.
func computedAttributes() map[string]schema.Attribute {
	keepString := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	return map[string]schema.Attribute{
		"id": schema.StringAttribute{
			MarkdownDescription: "Same as `ref`.",
			Computed:            true,
			PlanModifiers:       keepString,
		},
		"ref": schema.StringAttribute{
			MarkdownDescription: "The snapshot's name in the store, `IMAGE/FINGERPRINT/ARCHITECTURE`: hex digits of the image's id, " +
				"16 hex digits that stand for the run configuration, and the architecture.",
			Computed:      true,
			PlanModifiers: keepString,
		},
		"image_id": schema.StringAttribute{
			MarkdownDescription: "Id of the image that was booted, `sha256:…`; what `image` stands for.",
			Computed:            true,
			PlanModifiers:       keepString,
		},
		"digest": schema.StringAttribute{
			MarkdownDescription: "Digest of the snapshot's manifest, `sha256:…`. It identifies the content: two builds never have the same.",
			Computed:            true,
			PlanModifiers:       keepString,
		},
		"architecture": schema.StringAttribute{
			MarkdownDescription: "Architecture of the image and of the hosts that the snapshot can be restored on, as Go names it: `amd64`.",
			Computed:            true,
			PlanModifiers:       keepString,
		},
		"created_at": schema.StringAttribute{
			MarkdownDescription: "When the container was frozen, RFC 3339, UTC.",
			Computed:            true,
			PlanModifiers:       keepString,
		},
		"sizes": schema.SingleNestedAttribute{
			MarkdownDescription: "How big the snapshot is, in bytes.",
			Computed:            true,
			PlanModifiers:       []planmodifier.Object{objectplanmodifier.UseStateForUnknown()},
			Attributes: map[string]schema.Attribute{
				"memory":     schema.Int64Attribute{MarkdownDescription: "Memory pages, uncompressed.", Computed: true},
				"checkpoint": schema.Int64Attribute{MarkdownDescription: "CRIU's other images, uncompressed.", Computed: true},
				"rootfs":     schema.Int64Attribute{MarkdownDescription: "What the container changed on its disk, uncompressed.", Computed: true},
				"packed":     schema.Int64Attribute{MarkdownDescription: "All of it as it lies in the store.", Computed: true},
			},
		},
		"random_generators": schema.ListAttribute{
			MarkdownDescription: generatorsDescription,
			ElementType:         types.StringType,
			Computed:            true,
			PlanModifiers:       []planmodifier.List{listplanmodifier.UseStateForUnknown()},
		},
		"risks": schema.ListAttribute{
			MarkdownDescription: risksDescription,
			ElementType:         riskType,
			Computed:            true,
			PlanModifiers:       []planmodifier.List{listplanmodifier.UseStateForUnknown()},
		},
		"timings": schema.MapAttribute{
			MarkdownDescription: "How long each step of the build took, in seconds: `boot`, `warmup`, `freeze` and others.",
			ElementType:         types.Float64Type,
			Computed:            true,
			PlanModifiers:       []planmodifier.Map{mapplanmodifier.UseStateForUnknown()},
		},
	}
}
