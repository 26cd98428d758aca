package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

const second = "criu_snapshot.second"

// withSecond adds a resource to a configuration.
func withSecond(config, image, more string) string {
	return config + fmt.Sprintf(`
resource "criu_snapshot" "second" {
  image = %q
  ready = { tcp = { port = 80 } }
  %s
}
`, image, more)
}

// TestParallel: Terraform builds what does not depend on each other at the same time, into the same store.
func TestParallel(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		config := hcl(s, img.tag, `
			count = 3
			env   = { N = count.index }`)
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{
				Config: config,
				Check: func(state *terraform.State) error {
					var want []string
					for name, r := range state.RootModule().Resources {
						if !strings.HasPrefix(name, web) {
							return fmt.Errorf("unexpected resource %s", name)
						}
						want = append(want, r.Primary.ID)
					}
					slices.Sort(want)
					if got := s.refs(t); len(want) != 3 || !slices.Equal(got, want) {
						return fmt.Errorf("%s holds %q, the state %q", s.url, got, want)
					}
					return nil
				},
			},
			{Config: config, ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}},
		}})
	})
}

// TestDescribedTwice: two resources that would take one ref from each other are refused by the plan, both new or one of them.
func TestDescribedTwice(t *testing.T) {
	s, img := directory(t), newImage(t)
	one := hcl(s, img.tag, "")
	refused := func(second string) resource.TestStep {
		return resource.TestStep{Config: second, PlanOnly: true, ExpectError: says(`Two Resources Describe the Same Snapshot`)}
	}
	run(t, resource.TestCase{Steps: []resource.TestStep{
		refused(withSecond(one, img.tag, "")),
		{Config: one},
		refused(withSecond(one, img.tag, "")),
		refused(withSecond(one, img.tag, fmt.Sprintf("store = %q", "file://"+s.url+"/"))),
		{Config: one, ConfigPlanChecks: nothingPlanned()},
	}})
}

// TestRefPassedOn: what one resource gives up another one may take in the same run.
func TestRefPassedOn(t *testing.T) {
	s, img := directory(t), newImage(t)
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: withSecond(hcl(s, img.tag, ""), img.tag, `env = { SECOND = "1" }`)},
		{
			Config: withSecond(hcl(s, img.tag, `env = { A = "b" }`), img.tag, `depends_on = [criu_snapshot.web]`),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(web, plancheck.ResourceActionDestroyBeforeCreate),
				plancheck.ExpectResourceAction(second, plancheck.ResourceActionDestroyBeforeCreate),
			}},
		},
	}})
}

// TestRenamed: a resource under another name publishes what the former one deletes, in one apply and in any order.
func TestRenamed(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{Config: hcl(s, img.tag, "")},
			{
				Config: withSecond(fmt.Sprintf("provider \"criu\" {\n store = %q\n}\n", s.url), img.tag, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(web, plancheck.ResourceActionDestroy),
					plancheck.ExpectResourceAction(second, plancheck.ResourceActionCreate),
				}},
			},
		}})
	})
}

// TestNomad: the snapshot is what Nomad will start: its directories, its variables, its default capabilities, the job's user.
func TestNomad(t *testing.T) {
	s, img := directory(t), newImage(t)
	config := hcl(s, img.tag, `
		nomad = true
		user  = "0:0"
		env   = { GREETING = "hello" }`)
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: config,
			Check: func(state *terraform.State) error {
				var got snapshot.RunConfig
				s.open(t, func(ctx context.Context, st store.Store) error {
					found, err := lookUp(ctx, st, state.RootModule().Resources[web].Primary.ID)
					if err == nil {
						got = found.config.Run
					}
					return err
				})
				want := []snapshot.Mount{
					{Destination: "/alloc", Type: "bind"}, {Destination: "/local", Type: "bind"}, {Destination: "/secrets", Type: "bind"},
				}
				if !slices.Equal(got.Mounts, want) {
					return fmt.Errorf("mounts %v, want %v", got.Mounts, want)
				}
				if got.User != "0:0" {
					return fmt.Errorf("user %q", got.User)
				}
				if got.Env["GREETING"] != snapshot.HashEnv(digest.Digest(img.id(t)), "GREETING", "hello") {
					return fmt.Errorf("env %v", got.Env)
				}
				if caps := got.Security.Capabilities; len(caps) == 0 || slices.Contains(caps, "CAP_NET_RAW") {
					return fmt.Errorf("capabilities %v, want those of a Nomad task, without CAP_NET_RAW", caps)
				}
				return nil
			},
		},
		{Config: config, ConfigPlanChecks: nothingPlanned()},
		{Config: hcl(s, img.tag, ""), ConfigPlanChecks: planned(plancheck.ResourceActionDestroyBeforeCreate)},
	}})
}
