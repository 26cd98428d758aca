package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	caps "github.com/containerd/containerd/v2/pkg/cap"
	"github.com/distribution/reference"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/opencontainers/go-digest"
	"golang.org/x/net/http/httpguts"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// stringCheck is a validator of strings that a function checks.
type stringCheck struct {
	what  string // "an absolute path"
	check func(string) error
}

func (v stringCheck) Description(context.Context) string { return "value must be " + v.what }

func (v stringCheck) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v stringCheck) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := v.check(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Invalid Attribute Value",
			fmt.Sprintf("%s = %q, but must be %s: %s.", req.Path, req.ConfigValue.ValueString(), v.what, err))
	}
}

// mapCheck is a validator of maps of strings that a function checks entry by entry.
type mapCheck struct {
	what  string
	check func(key, value string) error
}

func (v mapCheck) Description(context.Context) string { return "each entry must be " + v.what }

func (v mapCheck) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v mapCheck) ValidateMap(_ context.Context, req validator.MapRequest, resp *validator.MapResponse) {
	for key, element := range req.ConfigValue.Elements() {
		value, ok := element.(interface{ ValueString() string })
		if !ok || element.IsNull() || element.IsUnknown() {
			continue
		}
		if err := v.check(key, value.ValueString()); err != nil {
			at := req.Path.AtMapKey(key)
			resp.Diagnostics.AddAttributeError(at, "Invalid Attribute Value",
				fmt.Sprintf("%s must be %s: %s.", at, v.what, err)) // without the value: it may be a secret
		}
	}
}

func imageReference() validator.String {
	return stringCheck{"the name of an image with tag or digest, or an image id", func(s string) error {
		_, err := reference.ParseAnyReference(s)
		return err
	}}
}

func imageID() validator.String {
	return stringCheck{"an image id such as `sha256:1f2e…`", func(s string) error {
		_, err := digest.Parse(s)
		return err
	}}
}

func snapshotRef() validator.String {
	return stringCheck{"a ref as `criu-docker ls` prints it", func(s string) error {
		_, err := snapshot.ParseRef(s)
		return err
	}}
}

func dockerHost() validator.String {
	return stringCheck{"the address of a Docker Engine on this machine, such as unix:///var/run/docker.sock", checkDockerHost}
}

// checkDockerHost refuses engines on other machines: what CRIU writes lies on the engine's disk, and the request that tells
// the runtime where to write it lies in this machine's /run.
func checkDockerHost(s string) error {
	u, err := client.ParseHostURL(s)
	if err != nil {
		return err
	}
	if u.Scheme == "unix" {
		return nil
	}
	if host, _, err := net.SplitHostPort(u.Host); err == nil && u.Scheme == "tcp" && (host == "localhost" || net.ParseIP(host).IsLoopback()) {
		return nil
	}
	return errors.New("a snapshot is built from the engine's disk, so run Terraform on the machine that the engine runs on")
}

func storeURL() validator.String {
	return stringCheck{"gs://BUCKET[/PREFIX] or the absolute path of a directory", checkStoreURL}
}

func checkStoreURL(s string) error {
	if !strings.Contains(s, ":/") && !path.IsAbs(s) {
		return errors.New("it is a relative path")
	}
	return store.Validate(s)
}

func absolutePath() validator.String {
	return stringCheck{"an absolute path", func(s string) error {
		switch {
		case !path.IsAbs(s):
			return errors.New("it does not begin with /")
		case strings.ContainsAny(s, ":\x00"):
			return errors.New("it holds a colon or NUL")
		}
		return nil
	}}
}

func urlPath() validator.String {
	return stringCheck{"a path that begins with /", func(s string) error {
		if !strings.HasPrefix(s, "/") {
			return errors.New("it does not begin with /")
		}
		_, err := url.ParseRequestURI(s)
		return err
	}}
}

func environmentName() validator.String {
	return stringCheck{"the name of an environment variable", func(s string) error {
		if s == "" || strings.ContainsAny(s, "=\x00") {
			return errors.New("it is empty or holds = or NUL")
		}
		return nil
	}}
}

func hostname() validator.String {
	return stringvalidator.All(
		stringvalidator.LengthBetween(1, 64), // the kernel's limit
		stringvalidator.RegexMatches(
			regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`),
			"must be letters, digits, hyphens and dots, and begin and end with a letter or digit"),
	)
}

func containerPort() validator.String {
	return stringCheck{"a container port or range such as 3000, 53/udp or 8000-8010/tcp", func(s string) error {
		if strings.Contains(s, ":") {
			return errors.New("it publishes the port; a snapshot only notes container ports")
		}
		_, err := nat.ParsePortSpec(s)
		return err
	}}
}

// exposedPorts turns container ports and ranges into the engine's set.
func exposedPorts(ports []string) (nat.PortSet, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	set, _, err := nat.ParsePortSpecs(ports)
	return set, err
}

func capability() validator.String {
	return stringCheck{"the name of a capability such as NET_ADMIN, or ALL", func(s string) error {
		// As Docker reads it. Whether the engine's kernel has it is seen when the engine is asked.
		name := strings.ToUpper(s)
		if name == "ALL" || slices.Contains(caps.Known(), "CAP_"+strings.TrimPrefix(name, "CAP_")) {
			return nil
		}
		return errors.New("there is no such capability, see capabilities(7)")
	}}
}

func ulimits() validator.Map {
	return mapCheck{"SOFT[:HARD], numbers, for a limit such as nofile", func(name, limits string) error {
		_, err := units.ParseUlimit(name + "=" + limits)
		return err
	}}
}

func cpuBaseline() validator.String {
	var names []string
	for _, b := range criu.Baselines {
		names = append(names, string(b))
	}
	return stringvalidator.OneOf(names...)
}

func cpuSet() validator.String {
	return stringvalidator.RegexMatches(regexp.MustCompile(`^\d+(-\d+)?(,\d+(-\d+)?)*$`), "must list processors, such as 0-3 or 0,1")
}

func portNumber() validator.Int64 { return int64validator.Between(1, 65535) }

func httpStatus() validator.Int64 { return int64validator.Between(100, 599) }

func httpMethod() validator.String {
	return stringvalidator.RegexMatches(regexp.MustCompile(`^[A-Z]+$`), "must be an HTTP method in capital letters, such as POST")
}

func httpHeader() validator.Map {
	return mapCheck{"an HTTP header field", func(name, value string) error {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return errors.New("its name holds characters that HTTP does not allow")
		case !httpguts.ValidHeaderFieldValue(value):
			return errors.New("its value holds characters that HTTP does not allow")
		}
		return nil
	}}
}

func regularExpression() validator.String {
	return stringCheck{"a regular expression", func(s string) error {
		_, err := regexp.Compile(s)
		return err
	}}
}

func signalName() validator.String {
	return stringCheck{"the name of a signal", func(s string) error { return hook.Hook{Type: hook.Signal, Signal: s}.Validate() }}
}

func positiveDuration() validator.String {
	return stringCheck{"a duration such as 500ms or 2m", func(s string) error {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return err
		case d <= 0:
			return errors.New("it is not positive")
		}
		return nil
	}}
}
