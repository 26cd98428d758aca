package main

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// snapshotsDataSource is the data source `criu_snapshots`: what a store holds.
type snapshotsDataSource struct {
	backends *backends
}

var _ datasource.DataSourceWithConfigure = (*snapshotsDataSource)(nil)

func newSnapshotsDataSource() datasource.DataSource { return &snapshotsDataSource{} }

func (d *snapshotsDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_snapshots"
}

func (d *snapshotsDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	computed := func(description string) schema.Attribute {
		return schema.StringAttribute{MarkdownDescription: description, Computed: true}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists the snapshots in a store, all or those of one image.",
		Attributes: map[string]schema.Attribute{
			"store": schema.StringAttribute{
				MarkdownDescription: "Store to list: `gs://BUCKET[/PREFIX]` or the absolute path of a directory. Default: the provider's.",
				Optional:            true,
				Validators:          []validator.String{storeURL()},
			},
			"image_id": schema.StringAttribute{
				MarkdownDescription: "Only snapshots of the image with this id, `sha256:…`.",
				Optional:            true,
				Validators:          []validator.String{imageID()},
			},
			"snapshots": schema.ListNestedAttribute{
				MarkdownDescription: "The snapshots, sorted by ref. The data source `criu_snapshot` has more about each.",
				Computed:            true,
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"ref":          computed("The snapshot's name, `IMAGE/FINGERPRINT/ARCHITECTURE`."),
					"image_id":     computed("Id of the image that was booted, `sha256:…`."),
					"architecture": computed("Architecture, as Go names it."),
					"digest":       computed("Digest of the snapshot's manifest, `sha256:…`."),
					"published_at": computed("When it was published, RFC 3339, UTC."),
				}},
			},
		},
	}
}

type snapshotsDataModel struct {
	Store     types.String      `tfsdk:"store"`
	ImageID   types.String      `tfsdk:"image_id"`
	Snapshots []snapshotSummary `tfsdk:"snapshots"`
}

type snapshotSummary struct {
	Ref          string `tfsdk:"ref"`
	ImageID      string `tfsdk:"image_id"`
	Architecture string `tfsdk:"architecture"`
	Digest       string `tfsdk:"digest"`
	PublishedAt  string `tfsdk:"published_at"`
}

func (d *snapshotsDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	var err error
	if d.backends, err = backendsFrom(req.ProviderData); err != nil {
		resp.Diagnostics.AddError("Provider Not Configured", err.Error())
	}
}

func (d *snapshotsDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var data snapshotsDataModel
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

	prefix := ""
	if !data.ImageID.IsNull() {
		prefix = digest.Digest(data.ImageID.ValueString()).Encoded() + "/"
	}
	entries, err := s.ListRefs(ctx, prefix)
	switch {
	case errors.Is(err, store.ErrCorrupt):
		resp.Diagnostics.AddWarning("Unreadable Ref", err.Error())
	case err != nil:
		resp.Diagnostics.AddError("Snapshots Cannot Be Listed", err.Error())
		return
	}
	data.Snapshots = make([]snapshotSummary, 0, len(entries)) // empty rather than null
	for _, e := range entries {
		ref, err := snapshot.ParseRef(e.Name)
		if err != nil {
			resp.Diagnostics.AddWarning("Unreadable Ref", err.Error())
			continue
		}
		data.Snapshots = append(data.Snapshots, snapshotSummary{
			Ref:          e.Name,
			ImageID:      ref.Image.String(),
			Architecture: ref.Arch,
			Digest:       e.Manifest.Digest.String(),
			PublishedAt:  e.Updated.UTC().Format(time.RFC3339),
		})
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &data)...)
}
