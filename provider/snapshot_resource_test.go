package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/store"
)

const web = "criu_snapshot.web"

// hcl is a configuration with one snapshot; more goes into its block.
func hcl(s testStore, image, more string) string {
	return fmt.Sprintf(`
provider "criu" {
  store = %q
}

resource "criu_snapshot" "web" {
  image = %q
  ready = { http = { port = 80 } }
  %s
}
`, s.url, image, more)
}

func attribute(name string) tfjsonpath.Path { return tfjsonpath.New(name) }

// known expects an attribute of the snapshot to have a value after apply.
func known(name string, value knownvalue.Check) statecheck.StateCheck {
	return statecheck.ExpectKnownValue(web, attribute(name), value)
}

// note adds an attribute's value after apply to what is compared from step to step.
func note(c interface {
	AddStateValue(string, tfjsonpath.Path) statecheck.StateCheck
}, name string,
) statecheck.StateCheck {
	return c.AddStateValue(web, attribute(name))
}

func matches(expr string) knownvalue.Check { return knownvalue.StringRegexp(regexp.MustCompile(expr)) }

// planned expects what a plan does with the snapshot.
func planned(action plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(web, action)}}
}

func nothingPlanned() resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}
}

func TestLifecycle(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		same := statecheck.CompareValue(compare.ValuesSame())
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{
				Config: hcl(s, img.tag, `env = { GREETING = "hello" }`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(web, plancheck.ResourceActionCreate),
					plancheck.ExpectKnownValue(web, attribute("image_id"), knownvalue.StringExact(img.id(t))),
					plancheck.ExpectKnownValue(web, attribute("ref"), matches(`^`+strings.TrimPrefix(img.id(t), "sha256:")+`/[0-9a-f]{16}/amd64$`)),
					plancheck.ExpectUnknownValue(web, attribute("digest")),
				}},
				ConfigStateChecks: []statecheck.StateCheck{
					note(same, "digest"),
					known("digest", matches(`^sha256:[0-9a-f]{64}$`)),
					known("store", knownvalue.StringExact(s.url)),
					known("architecture", knownvalue.StringExact("amd64")),
					known("created_at", matches(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)),
					known("sizes", knownvalue.ObjectPartial(map[string]knownvalue.Check{
						"memory":     positive{},
						"checkpoint": positive{},
						"packed":     positive{},
					})),
					known("random_generators", knownvalue.ListExact(nil)),
					known("risks", knownvalue.ListExact([]knownvalue.Check{knownvalue.ObjectPartial(map[string]knownvalue.Check{
						"kind": knownvalue.StringExact("cpu"), "see": knownvalue.StringExact("docs/cpu.md#processors"),
					})})),
					known("timings", knownvalue.MapPartial(map[string]knownvalue.Check{"boot": knownvalue.NotNull(), "freeze": knownvalue.NotNull()})),
				},
			},
			{
				Config:           hcl(s, img.tag, `env = { GREETING = "hello" }`),
				ConfigPlanChecks: nothingPlanned(),
			},
			{
				Config: hcl(s, img.tag, `
					env        = { GREETING = "hello" }
					nomad        = false
					user         = "root"
					working_dir  = "/"
					ports        = ["80"]
					network_mode = "bridge"
					checkpoint   = { tcp = "close" }
					timeouts     = { create = "5m" }
					store        = "`+s.url+`/"`),
				ConfigPlanChecks:  planned(plancheck.ResourceActionUpdate),
				ConfigStateChecks: []statecheck.StateCheck{note(same, "digest")},
			},
			{
				ResourceName:      web,
				ImportState:       true,
				ImportStateVerify: true,
				// What a snapshot does not say.
				ImportStateVerifyIgnore: []string{"ready", "env", "nomad", "user", "working_dir", "ports", "network_mode", "checkpoint", "timeouts", "store"},
			},
			{
				ResourceName:            web,
				ImportState:             true,
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"ready", "env", "nomad", "user", "working_dir", "ports", "network_mode", "checkpoint", "timeouts", "store"},
				ImportStateIdFunc: func(state *terraform.State) (string, error) {
					return s.url + "#" + state.RootModule().Resources[web].Primary.ID, nil
				},
			},
		}})
	})
}

// TestNotRoot: the app has a user, and nothing of root's. That it was restored once is in the timings.
func TestNotRoot(t *testing.T) {
	s, img := directory(t), newImage(t)
	config := hcl(s, img.tag, `
		user     = "1000:1000"
		security = {
			cap_drop     = ["ALL"]
			group_add    = ["2000"]
			security_opt = ["no-new-privileges"]
			ulimits      = { nofile = "100:200" }
		}`)
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: config,
			ConfigStateChecks: []statecheck.StateCheck{
				known("timings", knownvalue.MapPartial(map[string]knownvalue.Check{"freeze": knownvalue.NotNull(), "profile": knownvalue.NotNull()})),
			},
		},
		{Config: config, ConfigPlanChecks: nothingPlanned()},
	}})
}

func TestTagMoved(t *testing.T) {
	for _, lifecycle := range []struct {
		name, block string
		action      plancheck.ResourceActionType
	}{
		{"destroy before create", "", plancheck.ResourceActionDestroyBeforeCreate},
		{"create before destroy", "lifecycle {\n create_before_destroy = true\n }", plancheck.ResourceActionCreateBeforeDestroy},
	} {
		t.Run(lifecycle.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, s testStore) {
				img := newImage(t)
				ref, digest := statecheck.CompareValue(compare.ValuesDiffer()), statecheck.CompareValue(compare.ValuesDiffer())
				var id string
				run(t, resource.TestCase{Steps: []resource.TestStep{
					{
						Config:            hcl(s, img.tag, lifecycle.block),
						ConfigStateChecks: []statecheck.StateCheck{note(ref, "ref"), note(digest, "digest")},
					},
					{
						PreConfig:        func() { id = img.move(t) },
						Config:           hcl(s, img.tag, lifecycle.block),
						ConfigPlanChecks: planned(lifecycle.action),
						ConfigStateChecks: []statecheck.StateCheck{
							note(ref, "ref"), note(digest, "digest"),
							known("image_id", knownvalue.StringFunc(func(got string) error {
								if got != id {
									return fmt.Errorf("image_id = %s, want %s", got, id)
								}
								return nil
							})),
						},
						Check: func(*terraform.State) error {
							if refs := s.refs(t); len(refs) != 1 || !strings.HasPrefix(refs[0], strings.TrimPrefix(id, "sha256:")) {
								return fmt.Errorf("%s holds %q, want the snapshot of %s alone", s.url, refs, id)
							}
							return nil
						},
					},
				}})
			})
		})
	}
}

// TestReplacedUnderTheSameRef: what was frozen differs, but not the name, so the successor takes the ref over, and the
// predecessor's destroy must leave it alone.
func TestReplacedUnderTheSameRef(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		ref, digest := statecheck.CompareValue(compare.ValuesSame()), statecheck.CompareValue(compare.ValuesDiffer())
		first, before := "", "lifecycle {\n create_before_destroy = true\n }\n"
		var blobs int
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{
				Config:            hcl(s, img.tag, before),
				ConfigStateChecks: []statecheck.StateCheck{note(ref, "ref"), note(digest, "digest")},
				Check: func(state *terraform.State) error {
					first = state.RootModule().Resources[web].Primary.Attributes["digest"]
					blobs = len(s.objects(t))
					return nil
				},
			},
			{
				Config:            hcl(s, img.tag, before+`warm_up = [{ path = "/", count = 2 }]`),
				ConfigPlanChecks:  planned(plancheck.ResourceActionCreateBeforeDestroy),
				ConfigStateChecks: []statecheck.StateCheck{note(ref, "ref"), note(digest, "digest")},
				Check: func(state *terraform.State) error {
					if refs := s.refs(t); len(refs) != 1 || refs[0] != state.RootModule().Resources[web].Primary.ID {
						return fmt.Errorf("%s holds %q", s.url, refs)
					}
					for _, key := range s.objects(t) {
						if strings.HasSuffix(key, strings.TrimPrefix(first, "sha256:")) {
							return fmt.Errorf("the predecessor's manifest %s is still there", first)
						}
					}
					if now := len(s.objects(t)); now > blobs {
						return fmt.Errorf("%d objects after the replacement, %d before", now, blobs)
					}
					return nil
				},
			},
			{
				Config:            hcl(s, img.tag, `triggers = { schema = "2" }`),
				ConfigPlanChecks:  planned(plancheck.ResourceActionDestroyBeforeCreate),
				ConfigStateChecks: []statecheck.StateCheck{note(ref, "ref"), note(digest, "digest")},
			},
		}})
	})
}

func TestGoneIsPlannedAgain(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		config := hcl(s, img.tag, "")
		var ref string
		note := func(state *terraform.State) error {
			ref = state.RootModule().Resources[web].Primary.ID
			return nil
		}
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{Config: config, Check: note},
			{
				PreConfig: func() {
					s.open(t, func(ctx context.Context, st store.Store) error {
						entry, err := st.GetRef(ctx, ref)
						if err != nil {
							return err
						}
						return st.DeleteRef(ctx, ref, entry.Generation)
					})
				},
				Config:           config,
				ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
			},
		}})
	})
}

// TestLostContentIsPlannedAgain: a ref that leads to content that is not there is of no use to anybody.
func TestLostContentIsPlannedAgain(t *testing.T) {
	s, img := directory(t), newImage(t)
	config := hcl(s, img.tag, "")
	var manifest string
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config, Check: func(state *terraform.State) error {
			manifest = state.RootModule().Resources[web].Primary.Attributes["digest"]
			return nil
		}},
		{
			PreConfig: func() {
				for _, key := range s.objects(t) {
					if strings.HasPrefix(key, "blobs/") && !strings.HasSuffix(key, strings.TrimPrefix(manifest, "sha256:")) {
						if err := os.Remove(filepath.Join(s.url, key)); err != nil {
							t.Fatal(err)
						}
						return
					}
				}
			},
			Config:           config,
			ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
		},
	}})
}

// TestTakenOverIsPlannedAgain: another build has published under our ref.
func TestTakenOverIsPlannedAgain(t *testing.T) {
	s, img := directory(t), newImage(t)
	config := hcl(s, img.tag, "")
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config},
		{
			PreConfig: func() {
				s.open(t, func(ctx context.Context, st store.Store) error {
					_, err := build.Snapshot(ctx, img.eng, build.Options{
						Spec:       engine.Spec{Config: &container.Config{Image: img.tag}, Host: &container.HostConfig{}},
						Ready:      build.Probe{Type: build.ProbeTCP, Port: 80},
						Checkpoint: criu.DefaultOptions(),
						Store:      st,
						Force:      true,
					})
					return err
				})
			},
			Config:           config,
			ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
		},
		{Config: config, ConfigPlanChecks: nothingPlanned()},
	}})
}

// TestMovedToAnotherStore: the snapshot is destroyed where it was, not where the provider looks now.
func TestMovedToAnotherStore(t *testing.T) {
	from, to, img := directory(t), bucketPrefix(t), newImage(t)
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl(from, img.tag, "")},
		{
			Config:           hcl(to, img.tag, ""),
			ConfigPlanChecks: planned(plancheck.ResourceActionDestroyBeforeCreate),
			Check: func(*terraform.State) error {
				if left := from.objects(t); len(left) > 0 {
					return fmt.Errorf("left in %s: %q", from.url, left)
				}
				return nil
			},
		},
		{
			Config:           hcl(to, img.tag, fmt.Sprintf("store = %q", from.url)),
			ConfigPlanChecks: planned(plancheck.ResourceActionDestroyBeforeCreate),
		},
	}})
	for _, s := range []testStore{from, to} {
		if left := s.objects(t); len(left) > 0 {
			t.Errorf("left in %s: %q", s.url, left)
		}
	}
}

// TestAdoption: an imported snapshot is not rebuilt by a configuration that resolves to its ref.
func TestAdoption(t *testing.T) {
	s, img := directory(t), newImage(t)
	const adopted = "criu_snapshot.adopted"
	config := strings.Replace(hcl(s, img.tag, `env = { A = "b" }`), `"web"`, `"adopted"`, 1)
	var ref string
	s.open(t, func(ctx context.Context, st store.Store) error {
		result, err := build.Snapshot(ctx, img.eng, build.Options{
			Spec:       engine.Spec{Config: &container.Config{Image: img.tag, Env: []string{"A=b"}}, Host: &container.HostConfig{}},
			Ready:      build.Probe{Type: build.ProbeTCP, Port: 80},
			Checkpoint: criu.DefaultOptions(),
			Store:      st,
		})
		if err == nil {
			ref = result.Ref.String()
		}
		return err
	})
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: config + fmt.Sprintf("import {\n to = %s\n id = %q\n }\n", adopted, ref),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(adopted, plancheck.ResourceActionUpdate),
			}},
		},
		{Config: config, ConfigPlanChecks: nothingPlanned()},
	}})
}

// positive is a number above 0.
type positive struct{}

func (positive) String() string { return "a number above 0" }

func (positive) CheckValue(v any) error {
	if n, ok := v.(interface{ Float64() (float64, error) }); ok {
		if f, err := n.Float64(); err == nil && f > 0 {
			return nil
		}
	}
	return fmt.Errorf("got %v, want a number above 0", v)
}
