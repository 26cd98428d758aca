package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

func TestSchemasAreValid(t *testing.T) {
	ctx := context.Background()
	p := newProvider("test")()
	var ps provider.SchemaResponse
	p.Schema(ctx, provider.SchemaRequest{}, &ps)
	if diags := ps.Schema.ValidateImplementation(ctx); diags.HasError() {
		t.Errorf("provider: %v", diags)
	}
	for _, newResource := range p.Resources(ctx) {
		var rs resource.SchemaResponse
		newResource().Schema(ctx, resource.SchemaRequest{}, &rs)
		if diags := rs.Schema.ValidateImplementation(ctx); diags.HasError() {
			t.Errorf("resource: %v", diags)
		}
	}
	for _, newDataSource := range p.DataSources(ctx) {
		var ds datasource.SchemaResponse
		newDataSource().Schema(ctx, datasource.SchemaRequest{}, &ds)
		if diags := ds.Schema.ValidateImplementation(ctx); diags.HasError() {
			t.Errorf("data source: %v", diags)
		}
	}
	for _, newFunction := range p.(provider.ProviderWithFunctions).Functions(ctx) {
		var fd function.DefinitionResponse
		newFunction().Definition(ctx, function.DefinitionRequest{}, &fd)
		var valid function.DefinitionValidateResponse
		fd.Definition.ValidateImplementation(ctx, function.DefinitionValidateRequest{FuncName: "parse_ref"}, &valid)
		if valid.Diagnostics.HasError() {
			t.Errorf("function: %v", valid.Diagnostics)
		}
	}
}

// TestEverythingIsDescribed asks Terraform's side of the protocol, so that nested attributes are seen as well.
func TestEverythingIsDescribed(t *testing.T) {
	got, err := server(t).GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[string]*tfprotov6.Schema{"provider": got.Provider}
	for name, s := range got.ResourceSchemas {
		schemas["resource "+name] = s
	}
	for name, s := range got.DataSourceSchemas {
		schemas["data source "+name] = s
	}
	if len(schemas) != 4 {
		t.Errorf("%d schemas, want 4", len(schemas))
	}
	for name, s := range schemas {
		if name != "provider" && s.Block.Description == "" {
			t.Errorf("%s has no description", name)
		}
		checkDescribed(t, name, s.Block.Attributes)
	}
}

func checkDescribed(t *testing.T, where string, attributes []*tfprotov6.SchemaAttribute) {
	for _, a := range attributes {
		at := where + "." + a.Name
		if a.Description == "" {
			t.Errorf("%s has no description", at)
		} else if !strings.HasSuffix(a.Description, ".") {
			t.Errorf("%s: description %q is no sentence", at, a.Description)
		}
		if a.NestedType != nil {
			checkDescribed(t, at, a.NestedType.Attributes)
		}
	}
}

func server(t *testing.T) tfprotov6.ProviderServer {
	t.Helper()
	s, err := providerserver.NewProtocol6WithError(newProvider("test")())()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshotSchema(t *testing.T) schema.Schema {
	t.Helper()
	var resp resource.SchemaResponse
	(&snapshotResource{}).Schema(context.Background(), resource.SchemaRequest{}, &resp)
	return resp.Schema
}

// config is a configuration of criu_snapshot in JSON's terms; what is left out is null.
type config map[string]any

// minimal is the smallest valid configuration.
func minimal() config {
	return config{"image": "web:1", "ready": map[string]any{"tcp": map[string]any{"port": 80}}}
}

// with returns a copy that has the attribute set.
func (c config) with(name string, value any) config {
	clone := config{}
	for k, v := range c {
		clone[k] = v
	}
	clone[name] = value
	return clone
}

// raw turns a configuration into Terraform's value of the resource's type.
func (c config) raw(t *testing.T) tftypes.Value {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	value, err := tfprotov6.RawState{JSON: b}.Unmarshal(snapshotSchema(t).Type().TerraformType(context.Background()))
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return value
}

// model decodes a configuration as the resource does.
func (c config) model(t *testing.T) *snapshotModel {
	t.Helper()
	var m snapshotModel
	state := tfsdk.State{Schema: snapshotSchema(t), Raw: c.raw(t)}
	if diags := state.Get(context.Background(), &m); diags.HasError() {
		t.Fatalf("%v", diags)
	}
	return &m
}
