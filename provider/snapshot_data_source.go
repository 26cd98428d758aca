package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/datasourcevalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// snapshotDataSource is the data source `criu_snapshot`: one published snapshot, by ref or by image.
type snapshotDataSource struct {
	backends *backends
}

var (
	_ datasource.DataSourceWithConfigure        = (*snapshotDataSource)(nil)
	_ datasource.DataSourceWithConfigValidators = (*snapshotDataSource)(nil)
)

func newSnapshotDataSource() datasource.DataSource { return &snapshotDataSource{} }

func (d *snapshotDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_snapshot"
}

func (d *snapshotDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	computed := func(description string) schema.Attribute {
		return schema.StringAttribute{MarkdownDescription: description, Computed: true}
	}
	size := func(description string) schema.Attribute {
		return schema.Int64Attribute{MarkdownDescription: description, Computed: true}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Looks up a published snapshot, by `ref` or by `image_id`. It is an error if there is none, or if there " +
			"are several of the image.",
		Attributes: map[string]schema.Attribute{
			"store": schema.StringAttribute{
				MarkdownDescription: "Store to look in: `gs://BUCKET[/PREFIX]` or the absolute path of a directory. Default: the provider's.",
				Optional:            true,
				Validators:          []validator.String{storeURL()},
			},
			"ref": schema.StringAttribute{
				MarkdownDescription: "The snapshot's name, `IMAGE/FINGERPRINT/ARCHITECTURE`.",
				Optional:            true,
				Computed:            true,
				Validators:          []validator.String{snapshotRef()},
			},
			"image_id": schema.StringAttribute{
				MarkdownDescription: "Id of the image that was booted, `sha256:…`.",
				Optional:            true,
				Computed:            true,
				Validators:          []validator.String{imageID()},
			},
			"architecture": schema.StringAttribute{
				MarkdownDescription: "Architecture, as Go names it. Narrows a search by `image_id`.",
				Optional:            true,
				Computed:            true,
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"image":      computed("The image's name when the snapshot was built."),
			"digest":     computed("Digest of the snapshot's manifest, `sha256:…`."),
			"created_at": computed("When the container was frozen, RFC 3339, UTC."),
			"args": schema.ListAttribute{
				MarkdownDescription: "What was run: entrypoint followed by command.",
				ElementType:         types.StringType,
				Computed:            true,
			},
			"user":        computed("User that it runs as."),
			"working_dir": computed("Directory that it was started in."),
			"ports": schema.ListAttribute{
				MarkdownDescription: "Ports that it listens on, such as `3000/tcp`.",
				ElementType:         types.StringType,
				Computed:            true,
			},
			"sizes": schema.SingleNestedAttribute{
				MarkdownDescription: "How big the snapshot is, in bytes.",
				Computed:            true,
				Attributes: map[string]schema.Attribute{
					"memory":     size("Memory pages, uncompressed."),
					"checkpoint": size("CRIU's other images, uncompressed."),
					"rootfs":     size("What the container changed on its disk, uncompressed."),
					"packed":     size("All of it as it lies in the store."),
				},
			},
			"random_generators": schema.ListAttribute{
				MarkdownDescription: generatorsDescription,
				ElementType:         types.StringType,
				Computed:            true,
			},
			"risks": schema.ListAttribute{
				MarkdownDescription: risksDescription,
				ElementType:         riskType,
				Computed:            true,
			},
			"timings": schema.MapAttribute{
				MarkdownDescription: "How long each step of the build took, in seconds.",
				ElementType:         types.Float64Type,
				Computed:            true,
			},
			"built_on": schema.SingleNestedAttribute{
				MarkdownDescription: "The host that it was frozen on; one that restores it must be able to do as much.",
				Computed:            true,
				Attributes: map[string]schema.Attribute{
					"kernel":    computed("Version of the kernel."),
					"criu":      computed("Version of CRIU."),
					"runc":      computed("Version of runc."),
					"engine":    computed("Version of the Docker Engine."),
					"cpu_model": computed("Model of the processor."),
				},
			},
		},
	}
}

func (d *snapshotDataSource) ConfigValidators(context.Context) []datasource.ConfigValidator {
	return []datasource.ConfigValidator{datasourcevalidator.ExactlyOneOf(path.MatchRoot("ref"), path.MatchRoot("image_id"))}
}

type snapshotDataModel struct {
	Store        types.String `tfsdk:"store"`
	Ref          types.String `tfsdk:"ref"`
	ImageID      types.String `tfsdk:"image_id"`
	Architecture types.String `tfsdk:"architecture"`
	Image        types.String `tfsdk:"image"`
	Digest       types.String `tfsdk:"digest"`
	CreatedAt    types.String `tfsdk:"created_at"`
	Args         types.List   `tfsdk:"args"`
	User         types.String `tfsdk:"user"`
	WorkingDir   types.String `tfsdk:"working_dir"`
	Ports        types.List   `tfsdk:"ports"`
	Sizes        types.Object `tfsdk:"sizes"`
	Generators   types.List   `tfsdk:"random_generators"`
	Risks        types.List   `tfsdk:"risks"`
	Timings      types.Map    `tfsdk:"timings"`
	BuiltOn      types.Object `tfsdk:"built_on"`
}

func (d *snapshotDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	var err error
	if d.backends, err = backendsFrom(req.ProviderData); err != nil {
		resp.Diagnostics.AddError("Provider Not Configured", err.Error())
	}
}

func (d *snapshotDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var data snapshotDataModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &data)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s, err := d.backends.openStore(ctx, data.Store)
	if err != nil {
		resp.Diagnostics.AddError("Store Cannot Be Opened", err.Error())
		return
	}
	defer s.Close()

	name := data.Ref.ValueString()
	if data.Ref.IsNull() {
		name, err = onlyRef(ctx, s, digest.Digest(data.ImageID.ValueString()), data.Architecture.ValueString())
	}
	var found *published
	if err == nil {
		found, err = lookUp(ctx, s, name)
	}
	if err != nil {
		resp.Diagnostics.AddError("Snapshot Not Found", err.Error())
		return
	}
	resp.Diagnostics.Append(data.set(ctx, found)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &data)...)
}

// onlyRef returns the ref of the only snapshot of an image, on the given architecture if any is given.
func onlyRef(ctx context.Context, s store.Store, image digest.Digest, arch string) (string, error) {
	entries, err := s.ListRefs(ctx, image.Encoded()+"/")
	if err != nil && (len(entries) == 0 || !errors.Is(err, store.ErrCorrupt)) {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if arch == "" || strings.HasSuffix(e.Name, "/"+arch) {
			names = append(names, e.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("no snapshot of image %s in %s: %w", image, s.URL(), store.ErrNotFound)
	case 1:
		return names[0], nil
	default:
		return "", errors.New("image " + image.String() + " has several snapshots in " + s.URL() + ", set `ref` to one of them:\n" +
			strings.Join(names, "\n"))
	}
}

var builtOnType = map[string]attr.Type{
	"kernel":    types.StringType,
	"criu":      types.StringType,
	"runc":      types.StringType,
	"engine":    types.StringType,
	"cpu_model": types.StringType,
}

type builtOnModel struct {
	Kernel   string `tfsdk:"kernel"`
	CRIU     string `tfsdk:"criu"`
	Runc     string `tfsdk:"runc"`
	Engine   string `tfsdk:"engine"`
	CPUModel string `tfsdk:"cpu_model"`
}

func (m *snapshotDataModel) set(ctx context.Context, found *published) (diags diag.Diagnostics) {
	c := found.config
	m.Ref = types.StringValue(found.ref.String())
	m.ImageID = types.StringValue(found.ref.Image.String())
	m.Architecture = types.StringValue(found.ref.Arch)
	m.Image = types.StringValue(c.Image.Reference)
	m.Digest = types.StringValue(found.entry.Manifest.Digest.String())
	m.CreatedAt = types.StringValue(c.Created.UTC().Format(time.RFC3339))
	m.User = types.StringValue(c.Run.User)
	m.WorkingDir = types.StringValue(c.Run.WorkingDir)

	var more diag.Diagnostics
	m.Args, more = stringList(ctx, c.Run.Args)
	diags.Append(more...)
	m.Ports, more = stringList(ctx, c.Run.Ports)
	diags.Append(more...)
	m.Sizes, more = sizesValue(ctx, c.Sizes)
	diags.Append(more...)
	m.Timings, more = timingsValue(ctx, c.Timings)
	diags.Append(more...)
	m.Generators, more = stringList(ctx, c.Generators)
	diags.Append(more...)
	m.Risks, more = risksValue(ctx, c.Risks())
	diags.Append(more...)
	m.BuiltOn, more = types.ObjectValueFrom(ctx, builtOnType, builtOn(c.Host))
	diags.Append(more...)
	return diags
}

func builtOn(h snapshot.Host) builtOnModel {
	return builtOnModel{Kernel: h.Kernel, CRIU: h.CRIU, Runc: h.Runc, Engine: h.Engine, CPUModel: h.CPUModel}
}

// stringList is a list that is empty rather than null when it has no elements.
func stringList(ctx context.Context, list []string) (types.List, diag.Diagnostics) {
	if list == nil {
		list = []string{}
	}
	return types.ListValueFrom(ctx, types.StringType, list)
}
