package main

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// freezeAttributes describe when the booted container is frozen, and how.
func freezeAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"ready":   readyAttribute(),
		"warm_up": warmUpAttribute(),
		"hooks":   hooksAttribute(),
		"profile": schema.BoolAttribute{
			MarkdownDescription: "Whether to start a container from the snapshot, and send it the requests of `warm_up`, before the snapshot is published. " +
				"This shows that it can be restored, and which memory the app needs first. With `false` it is published untested: for an app " +
				"that must not run twice, or that only starts at the donor's address. A change does not build the snapshot again. Default `true`.",
			Optional: true,
		},
		"checkpoint": schema.SingleNestedAttribute{
			MarkdownDescription: "How the process is frozen; every restore does the same.",
			Optional:            true,
			Attributes: map[string]schema.Attribute{
				"tcp": schema.StringAttribute{
					MarkdownDescription: "What happens to open TCP connections: `close` ends them in the clone, so that the app reconnects; " +
						"`established` keeps them, for a single clone that has the same address. Default `close`.",
					Optional:   true,
					Validators: []validator.String{stringvalidator.OneOf(string(criu.TCPClose), string(criu.TCPEstablished))},
				},
				"file_locks": schema.BoolAttribute{
					MarkdownDescription: "Whether locks on files are frozen and taken again. Default `true`.",
					Optional:            true,
				},
				"ghost_limit": schema.Int64Attribute{
					MarkdownDescription: fmt.Sprintf("Largest deleted-but-open file that is carried along, in bytes. Default `%d`.", criu.DefaultOptions().GhostLimit),
					Optional:            true,
					Validators:          []validator.Int64{int64validator.AtLeast(0)},
				},
				"ext_unix_sk": schema.BoolAttribute{
					MarkdownDescription: "Whether the app may hold connections to unix sockets outside of its container. Default `false`.",
					Optional:            true,
				},
				"link_remap": schema.BoolAttribute{
					MarkdownDescription: "Whether the app may hold files open that it has deleted and that exist under another name, as POSIX semaphores do. " +
						"Default `true`.",
					Optional: true,
				},
			},
		},
	}
}

func readyAttribute() schema.Attribute {
	probes := []path.Expression{
		path.MatchRelative().AtParent().AtName("http"),
		path.MatchRelative().AtParent().AtName("tcp"),
		path.MatchRelative().AtParent().AtName("exec"),
		path.MatchRelative().AtParent().AtName("log"),
	}
	return schema.SingleNestedAttribute{
		MarkdownDescription: "How to tell that the app has booted: exactly one of `http`, `tcp`, `exec` and `log`.",
		Required:            true,
		Attributes: map[string]schema.Attribute{
			"http": schema.SingleNestedAttribute{
				MarkdownDescription: "Ready when a GET request is answered.",
				Optional:            true,
				Validators:          []validator.Object{objectvalidator.ExactlyOneOf(probes...)},
				Attributes: map[string]schema.Attribute{
					"port": portAttribute(),
					"path": pathAttribute(),
					"status": schema.Int64Attribute{
						MarkdownDescription: "Status that the answer must have. Default: any 2xx or 3xx.",
						Optional:            true,
						Validators:          []validator.Int64{httpStatus()},
					},
				},
			},
			"tcp": schema.SingleNestedAttribute{
				MarkdownDescription: "Ready when a TCP connection is accepted.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"port": portAttribute(),
				},
			},
			"exec": schema.SingleNestedAttribute{
				MarkdownDescription: "Ready when a command in the container exits with 0.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"command": commandAttribute(),
				},
			},
			"log": schema.SingleNestedAttribute{
				MarkdownDescription: "Ready when the app has written a certain line.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"pattern": schema.StringAttribute{
						MarkdownDescription: "[Regular expression](https://pkg.go.dev/regexp/syntax) that a line of the app's standard output or error must match.",
						Required:            true,
						Validators:          []validator.String{regularExpression()},
					},
				},
			},
			"interval": schema.StringAttribute{
				MarkdownDescription: "Time between two attempts, a duration such as `500ms`. Default `100ms`.",
				Optional:            true,
				Validators:          []validator.String{positiveDuration()},
			},
			"timeout": schema.StringAttribute{
				MarkdownDescription: "How long the boot may take, a duration such as `90s`. Default `5m`.",
				Optional:            true,
				Validators:          []validator.String{positiveDuration()},
			},
		},
	}
}

func warmUpAttribute() schema.Attribute {
	return schema.ListNestedAttribute{
		MarkdownDescription: "Requests that are sent, in this order, to the booted app before it is frozen, so that what they load " +
			"and compile is in the snapshot.",
		Optional: true,
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"method": schema.StringAttribute{
				MarkdownDescription: "HTTP method. Default `GET`.",
				Optional:            true,
				Validators:          []validator.String{httpMethod()},
			},
			"port": schema.Int64Attribute{
				MarkdownDescription: "Port in the container. Default: that of `ready.http` or `ready.tcp`.",
				Optional:            true,
				Validators:          []validator.Int64{portNumber()},
			},
			"path": schema.StringAttribute{
				MarkdownDescription: "Path and query, for example `/login`.",
				Required:            true,
				Validators:          []validator.String{urlPath()},
			},
			"header": schema.MapAttribute{
				MarkdownDescription: "Header fields.",
				ElementType:         types.StringType,
				Optional:            true,
				Validators:          []validator.Map{mapvalidator.NoNullValues(), httpHeader()},
			},
			"body": schema.StringAttribute{
				MarkdownDescription: "Body.",
				Optional:            true,
			},
			"status": schema.Int64Attribute{
				MarkdownDescription: "Status that the answer must have. Default: any below 500.",
				Optional:            true,
				Validators:          []validator.Int64{httpStatus()},
			},
			"count": schema.Int64Attribute{
				MarkdownDescription: "How often it is sent. Default `1`.",
				Optional:            true,
				Validators:          []validator.Int64{int64validator.AtLeast(1)},
			},
		}},
	}
}

// What probes and hooks have in common.

func portAttribute() schema.Int64Attribute {
	return schema.Int64Attribute{
		MarkdownDescription: "Port in the container.",
		Required:            true,
		Validators:          []validator.Int64{portNumber()},
	}
}

func pathAttribute() schema.StringAttribute {
	return schema.StringAttribute{
		MarkdownDescription: "Path and query. Default `/`.",
		Optional:            true,
		Validators:          []validator.String{urlPath()},
	}
}

func commandAttribute() schema.ListAttribute {
	return schema.ListAttribute{
		MarkdownDescription: "The command and its arguments; no shell is involved.",
		ElementType:         types.StringType,
		Required:            true,
		Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.NoNullValues()},
	}
}
