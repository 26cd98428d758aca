package main

import (
	"math"

	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// runAttributes describe the container that is booted, in the words of `docker run` and of Nomad's task configuration.
func runAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"image": schema.StringAttribute{
			MarkdownDescription: "Image to boot: a name with tag or digest, or an id. The snapshot is tied to the " +
				"id that this stands for in the engine (`image_id`), so a tag that has moved replaces it. For an image that is built in the " +
				"same run, refer to its id here. An image that the engine lacks is pulled, with the credentials that `docker login` " +
				"noted. One that it has is not looked up again in the registry, so run `docker pull` before a plan if a tag may have " +
				"moved.",
			Required:   true,
			Validators: []validator.String{imageReference()},
		},
		"entrypoint": schema.ListAttribute{
			MarkdownDescription: "Overrides the image's entrypoint and hides its command; `[\"\"]` asks for none.",
			ElementType:         types.StringType,
			Optional:            true,
			Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.NoNullValues()},
		},
		"command": schema.ListAttribute{
			MarkdownDescription: "Overrides the image's command; what follows the entrypoint.",
			ElementType:         types.StringType,
			Optional:            true,
			Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.NoNullValues()},
		},
		"env": schema.MapAttribute{
			MarkdownDescription: "Environment variables, added to the image's. Clones must be started with the same, except for those " +
				"that an orchestrator sets per allocation (`NOMAD_*`, `HOSTNAME`, …). Values of `sensitive` variables are hidden in " +
				"plans, but lie in Terraform's state and in the snapshot's memory; the snapshot's public part has only their hashes.",
			ElementType: types.StringType,
			Optional:    true,
			Validators: []validator.Map{
				mapvalidator.NoNullValues(),
				mapvalidator.KeysAre(environmentName()),
			},
		},
		"user": schema.StringAttribute{
			MarkdownDescription: "User to run as, `UID[:GID]` or names. Default: the image's.",
			Optional:            true,
			Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
		},
		"working_dir": schema.StringAttribute{
			MarkdownDescription: "Directory to start in, an absolute path. Default: the image's.",
			Optional:            true,
			Validators:          []validator.String{absolutePath()},
		},
		"hostname": schema.StringAttribute{
			MarkdownDescription: "Hostname while booting, seen by an app that remembers it. Every clone gets its own. Default: chosen by the engine.",
			Optional:            true,
			Validators:          []validator.String{hostname()},
		},
		"ports": schema.SetAttribute{
			MarkdownDescription: "Ports that the app listens on, added to those that the image exposes: `3000` or `3000/tcp`, `udp`, " +
				"`sctp`, or a range. Noted in the snapshot; nothing is published while it is built.",
			ElementType: types.StringType,
			Optional:    true,
			Validators:  []validator.Set{setvalidator.NoNullValues(), setvalidator.ValueStringsAre(containerPort())},
		},
		"mounts": schema.SetNestedAttribute{
			MarkdownDescription: "Mounts that the app sees while booting. A clone needs a mount at each of these destinations, and gets " +
				"no other; what is mounted there may differ.",
			Optional: true,
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"destination": schema.StringAttribute{
					MarkdownDescription: "Where it appears in the container, an absolute path.",
					Required:            true,
					Validators:          []validator.String{absolutePath()},
				},
				"type": schema.StringAttribute{
					MarkdownDescription: "`bind` (a file or directory of this machine), `volume` (of the engine) or `tmpfs` (in memory, its content is frozen).",
					Required:            true,
					Validators:          []validator.String{stringvalidator.OneOf(mountBind, mountVolume, mountTmpfs)},
				},
				"source": schema.StringAttribute{
					MarkdownDescription: "For `bind` the absolute path on this machine, for `volume` its name (default: an anonymous one, " +
						"removed after the build). None for `tmpfs`.",
					Optional:   true,
					Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				},
				"read_only": schema.BoolAttribute{
					MarkdownDescription: "Whether the app may only read it. Default `false`.",
					Optional:            true,
				},
			}},
		},
		"network_mode": schema.StringAttribute{
			MarkdownDescription: "Network to boot in: `bridge`, `host`, `none`, `container:NAME`, or the name of a network of the engine. " +
				"Clones may run in another. Default: the engine's.",
			Optional:   true,
			Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
		},
		"nomad": schema.BoolAttribute{
			MarkdownDescription: "Whether clones will be Nomad tasks: adds the mounts and variables that Nomad gives every task " +
				"(`/alloc`, `/local`, `/secrets`). Default `false`.",
			Optional: true,
		},
		"security": schema.SingleNestedAttribute{
			MarkdownDescription: "Privileges and limits of the app, named as in Nomad's task configuration. They are frozen with the " +
				"process, so clones must be started with the same.",
			Optional:   true,
			Attributes: securityAttributes(),
		},
		"cpu": schema.StringAttribute{
			MarkdownDescription: "Processor that glibc and OpenSSL are held to while the app boots, so that clones can run on any that has " +
				"as much: `x86-64-v2`, `x86-64-v3` or `x86-64-v4`. Default: clones need all that the building machine's processor has.",
			Optional:   true,
			Validators: []validator.String{cpuBaseline()},
		},
		"resources": schema.SingleNestedAttribute{
			MarkdownDescription: "Limits that the app has while it boots. Give it those of production: apps size heaps and " +
				"thread pools by them when they boot (the JVM, .NET, Node.js, Go), and a clone keeps what its donor has computed. Each " +
				"clone has limits of its own, which may differ.",
			Optional: true,
			Attributes: map[string]schema.Attribute{
				"memory": schema.Int64Attribute{
					MarkdownDescription: "Memory limit in MiB, as Nomad's `memory`. Default: none.",
					Optional:            true,
					Validators:          []validator.Int64{int64validator.Between(6, math.MaxInt64/units.MiB)}, // the engine's least
				},
				"cpus": schema.Float64Attribute{
					MarkdownDescription: "Number of processors, for example `1.5`; as `docker run --cpus`. Default: all.",
					Optional:            true,
					Validators:          []validator.Float64{float64validator.Between(0.01, 1<<20)},
				},
				"cpu_shares": schema.Int64Attribute{
					MarkdownDescription: "Share of the processors, a relative weight; Nomad sets it to the MHz of the task's `cpu`. Default: the engine's.",
					Optional:            true,
					Validators:          []validator.Int64{int64validator.Between(2, 262144)}, // the kernel's
				},
				"cpu_set": schema.StringAttribute{
					MarkdownDescription: "Processors to run on, for example `0-3` or `0,1`. Default: all.",
					Optional:            true,
					Validators:          []validator.String{cpuSet()},
				},
			},
		},
	}
}

func securityAttributes() map[string]schema.Attribute {
	flag := func(description string) schema.Attribute {
		return schema.BoolAttribute{MarkdownDescription: description + " Default `false`.", Optional: true}
	}
	mode := func(description string) schema.Attribute {
		return schema.StringAttribute{
			MarkdownDescription: description,
			Optional:            true,
			Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
		}
	}
	set := func(description string, each validator.String) schema.Attribute {
		return schema.SetAttribute{
			MarkdownDescription: description,
			ElementType:         types.StringType,
			Optional:            true,
			Validators:          []validator.Set{setvalidator.NoNullValues(), setvalidator.ValueStringsAre(each)},
		}
	}
	return map[string]schema.Attribute{
		"privileged":      flag("Whether the app has all privileges of the host."),
		"readonly_rootfs": flag("Whether the app may only read its root file system."),
		"init":            flag("Whether the engine puts a small init process in front of the app."),
		"cap_add":         set("Capabilities added to the engine's default, for example `NET_ADMIN`.", capability()),
		"cap_drop":        set("Capabilities taken away from the engine's default, or `ALL`.", capability()),
		"security_opt": set("Security options as the engine's API takes them, for example `no-new-privileges` or "+
			"`seccomp=unconfined`; a seccomp profile is given by content: `\"seccomp=${file(\"profile.json\")}\"`.",
			stringvalidator.LengthAtLeast(1)),
		"group_add":     set("Further groups of the app's user, by name or number.", stringvalidator.LengthAtLeast(1)),
		"ipc_mode":      mode("IPC namespace: `private`, `shareable`, `none`, `host` or `container:NAME`. Default: the engine's."),
		"pid_mode":      mode("Process namespace: `host` or `container:NAME`. Default: the app's own."),
		"uts_mode":      mode("Hostname namespace: `host`. Default: the app's own."),
		"userns_mode":   mode("User namespace: `host`. Default: the engine's."),
		"cgroupns_mode": mode("Control group namespace: `private` or `host`. Default: the engine's."),
		"ulimits": schema.MapAttribute{
			MarkdownDescription: "Resource limits of the app's processes by name, `SOFT[:HARD]`: `{ nofile = \"1024:4096\" }`.",
			ElementType:         types.StringType,
			Optional:            true,
			Validators:          []validator.Map{mapvalidator.NoNullValues(), ulimits()},
		},
		"sysctls": schema.MapAttribute{
			MarkdownDescription: "Kernel parameters of the app's namespaces by name: `{ \"net.core.somaxconn\" = \"1024\" }`.",
			ElementType:         types.StringType,
			Optional:            true,
			Validators:          []validator.Map{mapvalidator.NoNullValues(), mapvalidator.KeysAre(stringvalidator.LengthAtLeast(1))},
		},
	}
}
