package main

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type (
	object = map[string]any
	list   = []any
)

func TestValidConfigurations(t *testing.T) {
	for name, c := range map[string]config{
		"minimal":     minimal(),
		"image id":    minimal().with("image", "sha256:"+strings.Repeat("ab", 32)),
		"http probe":  minimal().with("ready", object{"http": object{"port": 3000, "path": "/login?x=1", "status": 200}, "interval": "200ms", "timeout": "2m"}),
		"exec probe":  minimal().with("ready", object{"exec": object{"command": list{"true"}}}),
		"log probe":   minimal().with("ready", object{"log": object{"pattern": "^Listening on"}}),
		"gs store":    minimal().with("store", "gs://bucket/prefix"),
		"dir store":   minimal().with("store", "/srv/snapshots"),
		"ports":       minimal().with("ports", list{"3000", "53/udp", "8000-8010/tcp"}),
		"mounts":      minimal().with("mounts", list{object{"destination": "/data", "type": "volume"}, object{"destination": "/run", "type": "tmpfs"}, object{"destination": "/etc/app", "type": "bind", "source": "/srv/app", "read_only": true}}),
		"warm-up":     minimal().with("warm_up", list{object{"path": "/", "header": object{"Accept": "*/*"}, "count": 3}}),
		"warm-up log": minimal().with("ready", object{"log": object{"pattern": "up"}}).with("warm_up", list{object{"path": "/", "port": 80}}),
		"security":    minimal().with("security", object{"cap_add": list{"NET_ADMIN", "cap_chown"}, "cap_drop": list{"ALL"}, "ulimits": object{"nofile": "1024:4096"}, "sysctls": object{"net.core.somaxconn": "1024"}}),
		"checkpoint":  minimal().with("checkpoint", object{"tcp": "established", "ghost_limit": 0}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range validate(t, c.raw(t)) {
				t.Errorf("%s: %s: %s", d.Attribute, d.Summary, d.Detail)
			}
		})
	}
}

func TestInvalidConfigurationsNameTheAttribute(t *testing.T) {
	mnt := func(m object) config { return minimal().with("mounts", list{m}) }
	told := func(h object) config { return minimal().with("hooks", object{"after_restore": list{h}}) }
	warm := func(m object) config { return minimal().with("warm_up", list{m}) }
	secure := func(m object) config { return minimal().with("security", m) }
	ready := func(m object) config { return minimal().with("ready", m) }
	for name, tc := range map[string]struct {
		config config
		at     string // beginning of the attribute's path
		says   string
	}{
		"image":              {minimal().with("image", "Web App:1"), "image", "name of an image"},
		"store scheme":       {minimal().with("store", "ftp://x"), "store", "scheme is not known"},
		"store relative":     {minimal().with("store", "snapshots"), "store", "relative path"},
		"store bucket":       {minimal().with("store", "gs:///x"), "store", "want gs://bucket"},
		"store path":         {minimal().with("store", "gs://bucket//x"), "store", "want gs://bucket"},
		"entrypoint empty":   {minimal().with("entrypoint", list{}), "entrypoint", "at least 1"},
		"command null":       {minimal().with("command", list{nil}), "command", "null"},
		"env name":           {minimal().with("env", object{"A=B": "x"}), "env", "environment variable"},
		"working_dir":        {minimal().with("working_dir", "app"), "working_dir", "absolute path"},
		"hostname":           {minimal().with("hostname", "-web_1"), "hostname", "letters, digits"},
		"port published":     {minimal().with("ports", list{"8080:80"}), "ports", "container port"},
		"port protocol":      {minimal().with("ports", list{"80/icmp"}), "ports", "container port"},
		"mount type":         {mnt(object{"destination": "/d", "type": "nfs"}), "mounts", "one of"},
		"mount destination":  {mnt(object{"destination": "d", "type": "tmpfs"}), "mounts", "absolute path"},
		"bind source":        {mnt(object{"destination": "/d", "type": "bind", "source": "data"}), "mounts", "absolute path of a file"},
		"bind no source":     {mnt(object{"destination": "/d", "type": "bind"}), "mounts", "absolute path of a file"},
		"volume source":      {mnt(object{"destination": "/d", "type": "volume", "source": "/data"}), "mounts", "a volume is named"},
		"tmpfs source":       {mnt(object{"destination": "/d", "type": "tmpfs", "source": "x"}), "mounts", "has none"},
		"mount twice":        {minimal().with("mounts", list{object{"destination": "/d", "type": "tmpfs"}, object{"destination": "/d/", "type": "volume"}}), "mounts", "second mount at /d"},
		"mount over nomad":   {mnt(object{"destination": "/local", "type": "tmpfs"}).with("nomad", true), "mounts", "second mount at /local"},
		"no probe":           {ready(object{"timeout": "1m"}), "ready", "one (and only one)"},
		"two probes":         {ready(object{"tcp": object{"port": 80}, "log": object{"pattern": "x"}}), "ready", "one (and only one)"},
		"http port":          {ready(object{"http": object{"port": 0}}), "ready", "between 1 and 65535"},
		"http path":          {ready(object{"http": object{"port": 80, "path": "login"}}), "ready", "begin with /"},
		"http status":        {ready(object{"http": object{"port": 80, "status": 20}}), "ready", "between 100 and 599"},
		"tcp port":           {ready(object{"tcp": object{"port": 65536}}), "ready", "between 1 and 65535"},
		"exec command":       {ready(object{"exec": object{"command": list{}}}), "ready", "at least 1"},
		"log pattern":        {ready(object{"log": object{"pattern": "("}}), "ready", "regular expression"},
		"interval":           {ready(object{"tcp": object{"port": 80}, "interval": "5"}), "ready", "duration"},
		"timeout":            {ready(object{"tcp": object{"port": 80}, "timeout": "-1s"}), "ready", "not positive"},
		"warm-up path":       {warm(object{"path": "x"}), "warm_up", "begin with /"},
		"warm-up method":     {warm(object{"path": "/", "method": "get"}), "warm_up", "HTTP method"},
		"warm-up header":     {warm(object{"path": "/", "header": object{"a b": "c"}}), "warm_up", "HTTP header field"},
		"warm-up status":     {warm(object{"path": "/", "status": 600}), "warm_up", "between 100 and 599"},
		"warm-up count":      {warm(object{"path": "/", "count": 0}), "warm_up", "at least 1"},
		"warm-up no port":    {ready(object{"log": object{"pattern": "x"}}).with("warm_up", list{object{"path": "/"}}), "warm_up", "Set port"},
		"hook of no kind":    {told(object{"timeout": "1s"}), "hooks", "one (and only one)"},
		"hook of two kinds":  {told(object{"signal": "HUP", "exec": object{"command": list{"x"}}}), "hooks", "one (and only one)"},
		"hook signal":        {told(object{"signal": "KILL"}), "hooks", "no app can handle it"},
		"hook path":          {told(object{"http": object{"port": 80, "path": "x"}}), "hooks", "begin with /"},
		"hook timeout":       {told(object{"signal": "HUP", "timeout": "0s"}), "hooks", "not positive"},
		"no hooks":           {minimal().with("hooks", object{"before_freeze": list{}}), "hooks", "at least 1"},
		"checkpoint tcp":     {minimal().with("checkpoint", object{"tcp": "keep"}), "checkpoint", "one of"},
		"checkpoint ghost":   {minimal().with("checkpoint", object{"ghost_limit": -1}), "checkpoint", "at least 0"},
		"capability":         {secure(object{"cap_add": list{"net-admin"}}), "security", "capability"},
		"no capability":      {secure(object{"cap_drop": list{"NET_ADMINS"}}), "security", `"NET_ADMINS", but must be the name of a capability`},
		"ulimit":             {secure(object{"ulimits": object{"nofile": "many"}}), "security", "SOFT[:HARD]"},
		"ulimit name":        {secure(object{"ulimits": object{"files": "1"}}), "security", "SOFT[:HARD]"},
		"cpu":                {minimal().with("cpu", "x86-64-v9"), "cpu", "one of"},
		"memory":             {minimal().with("resources", object{"memory": 5}), "resources", "between 6"},
		"cpus":               {minimal().with("resources", object{"cpus": 0}), "resources", "between 0.01"},
		"cpu_set":            {minimal().with("resources", object{"cpu_set": "0-"}), "resources", "0-3 or 0,1"},
		"timeouts":           {minimal().with("timeouts", object{"create": "soon"}), "timeouts", "Time Duration"},
		"network_mode empty": {minimal().with("network_mode", ""), "network_mode", "at least 1"},
	} {
		t.Run(name, func(t *testing.T) {
			diags := validate(t, tc.config.raw(t))
			for _, d := range diags {
				if strings.Contains(d.Attribute.String(), `AttributeName("`+tc.at+`")`) && strings.Contains(d.Summary+d.Detail, tc.says) {
					return
				}
			}
			t.Errorf("want a diagnostic at %s that says %q, got %d:", tc.at, tc.says, len(diags))
			for _, d := range diags {
				t.Errorf("%s: %s: %s", d.Attribute, d.Summary, d.Detail)
			}
		})
	}
}

// TestSecretsStayOutOfDiagnostics: a header's value may be a token.
func TestSecretsStayOutOfDiagnostics(t *testing.T) {
	c := minimal().with("warm_up", list{object{"path": "/", "header": object{"Authorization": "s3cret\nx"}}})
	diags := validate(t, c.raw(t))
	if len(diags) == 0 {
		t.Error("a header value with a line feed was accepted")
	}
	for _, d := range diags {
		if strings.Contains(d.Summary+d.Detail, "s3cret") {
			t.Errorf("diagnostic holds the value: %s", d.Detail)
		}
	}
}

// TestUnknownValuesAreNotJudged: a plan must be possible before everything is known.
func TestUnknownValuesAreNotJudged(t *testing.T) {
	full := minimal().
		with("mounts", list{object{"destination": "/d", "type": "bind", "source": "/s"}}).
		with("warm_up", list{object{"path": "/"}}).
		with("security", object{"ulimits": object{"nofile": "1"}}).
		with("env", object{"A": "b"})
	for _, at := range []*tftypes.AttributePath{
		tftypes.NewAttributePath().WithAttributeName("image"),
		tftypes.NewAttributePath().WithAttributeName("mounts"),
		tftypes.NewAttributePath().WithAttributeName("warm_up"),
		tftypes.NewAttributePath().WithAttributeName("warm_up").WithElementKeyInt(0).WithAttributeName("path"),
		tftypes.NewAttributePath().WithAttributeName("ready"),
		tftypes.NewAttributePath().WithAttributeName("ready").WithAttributeName("tcp"),
		tftypes.NewAttributePath().WithAttributeName("ready").WithAttributeName("tcp").WithAttributeName("port"),
		tftypes.NewAttributePath().WithAttributeName("security").WithAttributeName("ulimits"),
		tftypes.NewAttributePath().WithAttributeName("env").WithElementKeyString("A"),
	} {
		for _, d := range validate(t, unknownAt(t, full.raw(t), at)) {
			t.Errorf("%s unknown: %s: %s: %s", at, d.Attribute, d.Summary, d.Detail)
		}
	}
}

func unknownAt(t *testing.T, v tftypes.Value, at *tftypes.AttributePath) tftypes.Value {
	t.Helper()
	v, err := tftypes.Transform(v, func(p *tftypes.AttributePath, v tftypes.Value) (tftypes.Value, error) {
		if p.Equal(at) {
			return tftypes.NewValue(v.Type(), tftypes.UnknownValue), nil
		}
		return v, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func validate(t *testing.T, raw tftypes.Value) []*tfprotov6.Diagnostic {
	t.Helper()
	value, err := tfprotov6.NewDynamicValue(raw.Type(), raw)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server(t).ValidateResourceConfig(context.Background(), &tfprotov6.ValidateResourceConfigRequest{
		TypeName: "criu_snapshot",
		Config:   &value,
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Diagnostics
}
