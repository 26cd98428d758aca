package main

import (
	"context"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// storeVariable is the environment variable that stands in for the provider's `store`. (DOCKER_HOST, which stands in for
// `host`, is read by the engine's client.)
const storeVariable = "CRIU_DOCKER_STORE"

// criuProvider is the provider `criu`.
type criuProvider struct {
	version string
}

var (
	_ provider.Provider              = (*criuProvider)(nil)
	_ provider.ProviderWithFunctions = (*criuProvider)(nil)
)

func newProvider(version string) func() provider.Provider {
	return func() provider.Provider { return &criuProvider{version: version} }
}

func (p *criuProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "criu"
	resp.Version = p.version
}

func (p *criuProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Boots container images, freezes the booted processes with [CRIU](https://criu.org) and publishes " +
			"them as *snapshots*, from which containers start in a fraction of the time of a cold boot.\n\n" +
			"Snapshots are built on the machine that runs Terraform: it needs Docker Engine with the runtime `criu-docker` " +
			"(`criu-docker doctor` reports whether it is fit, `criu-docker runtime install` registers the runtime) and root. Reading and " +
			"destroying snapshots needs the store alone.",
		Attributes: map[string]schema.Attribute{
			"host": schema.StringAttribute{
				MarkdownDescription: "Address of the Docker Engine that boots the images, for example " +
					"`unix:///var/run/docker.sock`. It must be an engine on this machine, because CRIU's images are taken from its " +
					"disk. Default: the environment variable `DOCKER_HOST`, or else the engine's usual socket.",
				Optional:   true,
				Validators: []validator.String{dockerHost()},
			},
			"store": schema.StringAttribute{
				MarkdownDescription: "Where snapshots are published: `gs://BUCKET[/PREFIX]` or the absolute path of a directory. " +
					"`gs://` takes Google's application default credentials. A resource can name a store of its own. Default: " +
					"the environment variable `" + storeVariable + "`.",
				Optional:   true,
				Validators: []validator.String{storeURL()},
			},
			"allow_untrusted_stores": schema.BoolAttribute{
				MarkdownDescription: "Use stores in directories that others than root and the user of Terraform may write to. They " +
					"choose what runs in containers that are started from there. Default: `false`.",
				Optional: true,
			},
		},
	}
}

type providerModel struct {
	Host      types.String `tfsdk:"host"`
	Store     types.String `tfsdk:"store"`
	Untrusted types.Bool   `tfsdk:"allow_untrusted_stores"`
}

// Configure only notes the addresses. Connections are made when something needs them, so that a plan that needs no
// engine (a destroy, say) works without one.
func (p *criuProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if url := os.Getenv(storeVariable); config.Store.IsNull() && url != "" {
		if err := checkStoreURL(url); err != nil {
			resp.Diagnostics.AddAttributeError(path.Root("store"), "Unusable "+storeVariable, err.Error())
			return
		}
		config.Store = types.StringValue(url)
	}
	if config.Untrusted.ValueBool() {
		resp.Diagnostics.AddAttributeWarning(path.Root("allow_untrusted_stores"), "Untrusted Stores Are Allowed",
			"Others may be able to write to the directory of a store. They choose what runs in containers that are started from it.")
	}
	b := &backends{host: config.Host, store: config.Store, untrusted: config.Untrusted.ValueBool()}
	resp.ResourceData = b
	resp.DataSourceData = b
}

func (p *criuProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{newSnapshotResource}
}

func (p *criuProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newSnapshotDataSource, newSnapshotsDataSource}
}

func (p *criuProvider) Functions(context.Context) []func() function.Function {
	return []func() function.Function{newParseRefFunction}
}
