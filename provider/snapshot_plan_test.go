package main

import (
	"context"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// applied is what the state holds of a configuration after it was applied.
func (c config) applied() config {
	return c.with("ref", "aa/bb/amd64").with("id", "aa/bb/amd64").with("image_id", "sha256:aa").with("store", "/srv")
}

func TestReplacement(t *testing.T) {
	base := minimal().
		with("triggers", object{"schema": "1"}).
		with("mounts", list{object{"destination": "/a", "type": "tmpfs"}, object{"destination": "/b", "type": "tmpfs", "read_only": false}}).
		with("warm_up", list{object{"path": "/"}})
	imported := config{"image": "web:1"}.applied()
	for name, tc := range map[string]struct {
		state, plan config
		want        string // as path.Paths prints them
	}{
		"nothing":               {base.applied(), base.applied(), "[]"},
		"image moved":           {base.applied(), base.applied().with("ref", "cc/bb/amd64").with("image_id", "sha256:cc"), "[image_id,ref]"},
		"other run config":      {base.applied(), base.applied().with("user", "1000").with("ref", "aa/dd/amd64"), "[image_id,ref]"},
		"other store":           {base.applied(), base.applied().with("store", "gs://b"), "[store]"},
		"trigger":               {base.applied(), base.applied().with("triggers", object{"schema": "2"}), "[triggers]"},
		"hostname":              {base.applied(), base.applied().with("hostname", "web"), "[hostname]"},
		"ports":                 {base.applied(), base.applied().with("ports", list{"80"}), "[ports]"},
		"mount source":          {base.applied(), base.applied().with("mounts", list{object{"destination": "/a", "type": "volume", "source": "v"}}), "[mounts]"},
		"processor":             {base.applied(), base.applied().with("cpu", "x86-64-v2"), "[cpu]"},
		"limits":                {base.applied(), base.applied().with("resources", object{"memory": 512}), "[resources]"},
		"limits named for none": {base.applied(), base.applied().with("resources", object{}), "[]"},
		"network":               {base.applied(), base.applied().with("network_mode", "host"), "[network_mode]"},
		"hooks":                 {base.applied(), base.applied().with("hooks", object{"after_restore": list{object{"signal": "USR1"}}}), "[hooks]"},
		"warm-up":               {base.applied(), base.applied().with("warm_up", list{object{"path": "/login"}}), "[warm_up]"},
		"checkpoint":            {base.applied(), base.applied().with("checkpoint", object{"file_locks": false}), "[checkpoint]"},
		"probe":                 {base.applied(), base.applied().with("ready", object{"tcp": object{"port": 81}}), "[ready]"},
		"patience":              {base.applied(), base.applied().with("ready", object{"tcp": object{"port": 80}, "timeout": "9m", "interval": "1s"}), "[]"},
		"profile":               {base.applied(), base.applied().with("profile", false), "[]"},
		"timeouts":              {base.applied(), base.applied().with("timeouts", object{"create": "1h"}), "[]"},
		"default written out":   {base.applied(), base.applied().with("checkpoint", object{"tcp": "close"}).with("nomad", false).with("warm_up", list{object{"path": "/", "method": "GET", "count": 1}}), "[]"},
		"same tag, other name":  {base.applied(), base.applied().with("image", "web:2"), "[]"},
		"image's port":          {base.applied(), base.applied().with("ports", list{"3000"}), "[]"},
		"no port any more":      {base.applied().with("ports", list{"3000", "80"}), base.applied().with("ports", list{"3000"}), "[ports]"},
		"engine's network":      {base.applied(), base.applied().with("network_mode", "bridge"), "[]"},
		"slash after store":     {base.applied(), base.applied().with("store", "/srv/"), "[]"},
		"store as URL":          {base.applied(), base.applied().with("store", "file:///srv"), "[]"},
		"slash after bucket":    {base.applied().with("store", "gs://b/p"), base.applied().with("store", "gs://b/p/"), "[]"},
		"variable of Nomad's":   {base.applied(), base.applied().with("env", object{"NOMAD_X": "1"}), "[env]"},
		"hostname variable":     {base.applied().with("env", object{"HOSTNAME": "a"}), base.applied().with("env", object{"HOSTNAME": "b"}), "[env]"},
		"imported, same ref":    {imported, base.applied(), "[]"},
		"imported, other ref":   {imported, base.applied().with("ref", "aa/dd/amd64"), "[image_id,ref]"},
		"imported, other store": {imported, base.applied().with("store", "gs://b"), "[store]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, diags := replacement(context.Background(), tc.state.model(t), tc.plan.model(t), []string{"3000/tcp"})
			if diags.HasError() {
				t.Fatalf("%v", diags)
			}
			if got.String() != tc.want {
				t.Errorf("replaced because of %s, want %s", got, tc.want)
			}
		})
	}
}

// TestUnknownDescriptionReplaces: whether it is the same snapshot can only be said of what is known.
func TestUnknownDescriptionReplaces(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"image", "env", "triggers", "warm_up"} {
		raw := unknownAt(t, minimal().applied().raw(t), tftypes.NewAttributePath().WithAttributeName(name))
		var plan snapshotModel
		if diags := (tfsdk.State{Schema: snapshotSchema(t), Raw: raw}).Get(ctx, &plan); diags.HasError() {
			t.Fatalf("%v", diags)
		}
		r := &snapshotResource{backends: &backends{}}
		state := minimal().applied().model(t)
		if _, diags := r.planRef(ctx, &plan, state); diags.HasError() { // needs no engine
			t.Fatalf("%v", diags)
		}
		replace, diags := replacement(ctx, state, &plan, nil)
		if diags.HasError() || len(replace) == 0 {
			t.Errorf("%s unknown: replaced because of %s, %v", name, replace, diags)
		}
	}
}

// TestUnknownEngine: with the engine's address unknown a snapshot is left alone only while its description is the same.
func TestUnknownEngine(t *testing.T) {
	ctx := context.Background()
	r := &snapshotResource{backends: &backends{host: types.StringUnknown()}}
	state := minimal().applied().model(t)

	same := minimal().applied().model(t)
	if _, diags := r.planRef(ctx, same, state); diags.HasError() || !same.Ref.Equal(state.Ref) {
		t.Errorf("same description: ref %s, %v", same.Ref, diags)
	}
	other := minimal().applied().with("user", "1000").model(t)
	if _, diags := r.planRef(ctx, other, state); diags.HasError() || !other.Ref.IsUnknown() {
		t.Errorf("other description: ref %s, %v", other.Ref, diags)
	}
	fresh := minimal().model(t)
	if _, diags := r.planRef(ctx, fresh, nil); diags.HasError() || !fresh.Ref.IsUnknown() {
		t.Errorf("new: ref %s, %v", fresh.Ref, diags)
	}
}
