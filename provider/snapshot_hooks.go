package main

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/hook"
)

// hooksAttribute is how the app is told that it is to be frozen, and that it has been restored.
func hooksAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		MarkdownDescription: "Hooks tell the app that it is about to be frozen, and each of its clones that it is one, so that the app can seed random " +
			"generators anew and open connections again. Every container finds its identity, with 64 random bytes, in `/.criu-docker`.",
		Optional: true,
		Attributes: map[string]schema.Attribute{
			"before_freeze": hookList("Run in this order in the container that is to be frozen, when it is ready and warm. If one fails, the build fails."),
			"after_restore": hookList("Run in this order in every clone, at each of its starts, before it counts as started; clients are refused " +
				"until then. If one fails, the start fails."),
		},
	}
}

func hookList(description string) schema.Attribute {
	kinds := []path.Expression{
		path.MatchRelative().AtParent().AtName("signal"),
		path.MatchRelative().AtParent().AtName("exec"),
		path.MatchRelative().AtParent().AtName("http"),
	}
	return schema.ListNestedAttribute{
		MarkdownDescription: description + " Each is exactly one of `signal`, `exec` and `http`.",
		Optional:            true,
		Validators:          []validator.List{listvalidator.SizeAtLeast(1)},
		NestedObject: schema.NestedAttributeObject{
			Attributes: map[string]schema.Attribute{
				"signal": schema.StringAttribute{
					MarkdownDescription: "Name of a signal to the container's first process, such as `USR1`. The start does not wait for what the app does then.",
					Optional:            true,
					Validators:          []validator.String{signalName(), stringvalidator.ExactlyOneOf(kinds...)},
				},
				"exec": schema.SingleNestedAttribute{
					MarkdownDescription: "A command in the container, which has to exit with 0. It has the variables that its container was created " +
						"with, and the identity as `CRIU_DOCKER_GENERATION`, `CRIU_DOCKER_RANDOM` and others.",
					Optional: true,
					Attributes: map[string]schema.Attribute{
						"command": commandAttribute(),
					},
				},
				"http": schema.SingleNestedAttribute{
					MarkdownDescription: "A POST request whose body is the identity in JSON. The app has to answer it with a 2xx status.",
					Optional:            true,
					Attributes: map[string]schema.Attribute{
						"port": portAttribute(),
						"path": pathAttribute(),
					},
				},
				"timeout": schema.StringAttribute{
					MarkdownDescription: fmt.Sprintf("How long it may take, a duration such as `30s`. Default `%s`.", hook.DefaultTimeout),
					Optional:            true,
					Validators:          []validator.String{positiveDuration()},
				},
			},
		},
	}
}

type hooksModel struct {
	BeforeFreeze types.List `tfsdk:"before_freeze"`
	AfterRestore types.List `tfsdk:"after_restore"`
}

type hookModel struct {
	Signal  types.String    `tfsdk:"signal"`
	Exec    *execProbeModel `tfsdk:"exec"`
	HTTP    *httpHookModel  `tfsdk:"http"`
	Timeout types.String    `tfsdk:"timeout"`
}

type httpHookModel struct {
	Port types.Int64  `tfsdk:"port"`
	Path types.String `tfsdk:"path"`
}

func (m *snapshotModel) hooks(d *decoder) hook.Hooks {
	var h hooksModel
	d.object(m.Hooks, &h)
	return hook.Hooks{
		BeforeFreeze: d.hooks(h.BeforeFreeze, path.Root("hooks").AtName("before_freeze")),
		AfterRestore: d.hooks(h.AfterRestore, path.Root("hooks").AtName("after_restore")),
	}
}

func (d *decoder) hooks(list types.List, at path.Path) []hook.Hook {
	var models []hookModel
	d.elements(list, &models)
	var hooks []hook.Hook
	for i, m := range models {
		h := hook.Hook{Timeout: d.duration(at.AtListIndex(i).AtName("timeout"), m.Timeout)}
		switch {
		case m.HTTP != nil:
			h.Type, h.Port, h.Path = hook.HTTP, int(m.HTTP.Port.ValueInt64()), m.HTTP.Path.ValueString()
			if h.Path == "" {
				h.Path = "/"
			}
		case m.Exec != nil:
			h.Type, h.Command = hook.Exec, d.strings(m.Exec.Command)
		default:
			h.Type, h.Signal = hook.Signal, m.Signal.ValueString()
		}
		if err := h.Validate(); err != nil {
			d.diags.AddAttributeError(at.AtListIndex(i), "Unusable Hook", err.Error())
		}
		hooks = append(hooks, h)
	}
	return hooks
}
