package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
)

// says matches a sentence however terraform wraps it.
func says(words string) *regexp.Regexp {
	return regexp.MustCompile(regexp.MustCompile(`\s+`).ReplaceAllString(words, `\s+`))
}

// TestStoreDown: a store that does not answer is an error, and takes nothing out of the state.
func TestStoreDown(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		config := hcl(s, img.tag, `timeouts = { read = "3s" }`)
		up := func() {}
		run(t, resource.TestCase{Steps: []resource.TestStep{
			{Config: config},
			{
				PreConfig:   func() { up = takeDown(t, s) },
				Config:      config,
				ExpectError: regexp.MustCompile(`Store Cannot Be Opened|Snapshot Cannot Be Read`),
			},
			{
				PreConfig:        func() { up() },
				Config:           config,
				ConfigPlanChecks: nothingPlanned(),
			},
		}})
	})
}

// takeDown makes a store unreachable; the returned function brings it up again.
func takeDown(t *testing.T, s testStore) (up func()) {
	t.Helper()
	if s.name == "bucket" {
		const variable = "STORAGE_EMULATOR_HOST"
		host := os.Getenv(variable)
		t.Setenv(variable, "http://127.0.0.1:9") // discard: nobody listens
		return func() { t.Setenv(variable, host) }
	}
	if err := os.Rename(s.url, s.url+".unmounted"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.url, 0o700); err != nil { // what is below a file system that is not mounted
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(s.url); err != nil {
			t.Error(err)
		}
		if err := os.Rename(s.url+".unmounted", s.url); err != nil {
			t.Error(err)
		}
	}
}

// TestNeverReady: the error says what the app said, and nothing is left behind (the store is checked by onEachStore, donors
// by newImage).
func TestNeverReady(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img := newImage(t)
		run(t, resource.TestCase{Steps: []resource.TestStep{{
			Config: fmt.Sprintf(`
provider "criu" {
  store = %q
}

resource "criu_snapshot" "web" {
  image   = %q
  command = ["sh", "-c", "echo no database >&2; sleep 1000"]
  ready = {
    tcp     = { port = 81 }
    timeout = "2s"
  }
}
`, s.url, img.tag),
			ExpectError: says(`no database`),
		}}})
	})
}

// TestBadRun: what the engine refuses is told, and nothing is left behind.
func TestBadRun(t *testing.T) {
	s, img := directory(t), newImage(t)
	for name, tc := range map[string]struct{ more, says string }{
		"no such command":  {`entrypoint = ["/no/such/command"]`, `/no/such/command`},
		"no such network":  {`network_mode = "no-such-network"`, `no-such-network`},
		"failing warm-up":  {`warm_up = [{ path = "/", status = 418 }]`, `warm-up request 1`},
		"failing hook":     {`hooks = { before_freeze = [{ exec = { command = ["/bin/busybox", "false"] } }] }`, `before_freeze\[0\]`},
		"no time to build": {`timeouts = { create = "1ms" }`, `deadline exceeded`},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, resource.TestCase{Steps: []resource.TestStep{{
				Config:      hcl(s, img.tag, tc.more),
				ExpectError: says(tc.says),
			}}})
			if left := s.objects(t); len(left) > 0 {
				t.Errorf("left in the store: %q", left)
			}
		})
	}
}

func TestUnknownImage(t *testing.T) {
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config:      hcl(directory(t), "localhost:1/no-such-image:1", ""),
		PlanOnly:    true,
		ExpectError: says(`Image Cannot Be Resolved`),
	}}})
}

func TestNoStore(t *testing.T) {
	t.Setenv(storeVariable, "")
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: `
resource "criu_snapshot" "web" {
  image = "tiny:lab"
  ready = { tcp = { port = 80 } }
}`,
		PlanOnly:    true,
		ExpectError: says(`no store is configured`),
	}}})
}

// TestNoBucket: a mistyped bucket is found by the plan, before anything is built.
func TestNoBucket(t *testing.T) {
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config:      hcl(testStore{url: "gs://no-such-bucket"}, baseImage, ""),
		PlanOnly:    true,
		ExpectError: says(`bucket no-such-bucket does not exist`),
	}}})
}

// TestStoreFromEnvironment: neither the provider nor the resource need to name the store.
func TestStoreFromEnvironment(t *testing.T) {
	s, img := directory(t), newImage(t)
	t.Setenv(storeVariable, s.url)
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: fmt.Sprintf(`
resource "criu_snapshot" "web" {
  image = %q
  ready = { tcp = { port = 80 } }
}`, img.tag),
		Check: resource.TestCheckResourceAttr(web, "store", s.url),
	}}})
}

// TestNoEngine: only what is built needs one.
func TestNoEngine(t *testing.T) {
	s, img := directory(t), newImage(t)
	const nowhere = "unix:///no/such/docker.sock"
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config:      withHost(hcl(s, img.tag, ""), nowhere),
			ExpectError: says(`No Docker Engine`),
		},
		{Config: hcl(s, img.tag, "")},
		{
			Config:           withHost(hcl(s, img.tag, ""), nowhere),
			ConfigPlanChecks: nothingPlanned(),
		},
		{
			Config:      withHost(hcl(s, img.tag, `user = "1000"`), nowhere),
			ExpectError: says(`No Docker Engine`),
		},
		{
			Config:  withHost(hcl(s, img.tag, ""), nowhere),
			Destroy: true,
		},
	}})
	if left := s.objects(t); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

func withHost(config, host string) string {
	return regexp.MustCompile(`(?m)^  store = .*$`).ReplaceAllString(config, "$0\n  host = \""+host+"\"")
}

// TestImageMovedAfterThePlan: what was planned is built, or nothing. Terraform itself notices, as it plans once more right
// before it applies.
func TestImageMovedAfterThePlan(t *testing.T) {
	s, img := directory(t), newImage(t)
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: hcl(s, img.tag, ""),
		ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			afterPlan(func() { img.move(t) }),
		}},
		ExpectError: says(`invalid new value for .image_id`),
	}}})
	if left := s.objects(t); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

// TestImageKnownAfterApply: an image that comes from another resource replaces the snapshot when that changes.
func TestImageKnownAfterApply(t *testing.T) {
	s, img := directory(t), newImage(t)
	config := func(id string) string {
		return fmt.Sprintf(`
provider "criu" {
  store = %q
}

resource "terraform_data" "image" {
  input = %q
}

resource "criu_snapshot" "web" {
  image = terraform_data.image.output
  ready = { tcp = { port = 80 } }
}
`, s.url, id)
	}
	first := img.id(t)
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: config(first),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectUnknownValue(web, attribute("ref")),
				plancheck.ExpectUnknownValue(web, attribute("image_id")),
			}},
			Check: resource.TestCheckResourceAttr(web, "image_id", first),
		},
		{Config: config(first), ConfigPlanChecks: nothingPlanned()},
		{
			Config:           config(img.tag),
			ConfigPlanChecks: planned(plancheck.ResourceActionDestroyBeforeCreate), // the value is unknown: it may be any image
			Check: resource.ComposeAggregateTestCheckFunc(
				resource.TestCheckResourceAttr(web, "image_id", first),
				func(*terraform.State) error {
					if refs := s.refs(t); len(refs) != 1 {
						return fmt.Errorf("the store holds %q, want one snapshot", refs)
					}
					return nil
				},
			),
		},
	}})
}

func TestBadImportID(t *testing.T) {
	s, img := bucketPrefix(t), newImage(t)
	step := func(id, words string) resource.TestStep {
		return resource.TestStep{
			Config:        hcl(s, img.tag, ""),
			ResourceName:  web,
			ImportState:   true,
			ImportStateId: id,
			ExpectError:   says(words),
		}
	}
	const ref = "43195803ca54000000000000000000000000000000000000000000000000abcd/0123456789abcdef/amd64"
	run(t, resource.TestCase{Steps: []resource.TestStep{
		step("web", `want REF or STORE#REF`),
		step("relative#"+ref, `relative path`),
		step(ref, `non-existent remote object`),
	}})
}

// TestCreateHoldsOnToThePlan: a tag that moves in the very moment is noticed as well.
func TestCreateHoldsOnToThePlan(t *testing.T) {
	s, img := directory(t), newImage(t)
	planned := minimal().with("image", img.tag).with("store", s.url).
		with("image_id", "sha256:"+strings.Repeat("0", 64)).raw(t)
	value, err := tfprotov6.NewDynamicValue(planned.Type(), planned)
	if err != nil {
		t.Fatal(err)
	}
	none, err := tfprotov6.NewDynamicValue(planned.Type(), tftypes.NewValue(planned.Type(), nil))
	if err != nil {
		t.Fatal(err)
	}
	p := configured(t)
	resp, err := p.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "criu_snapshot", PriorState: &none, PlannedState: &value, Config: &value,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Diagnostics) != 1 || resp.Diagnostics[0].Summary != "Image Changed Since the Plan" {
		t.Errorf("got %d diagnostics, want one that tells that the image has changed", len(resp.Diagnostics))
		for _, d := range resp.Diagnostics {
			t.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	if left := s.objects(t); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

// configured is a provider with an empty configuration, as Terraform leaves it behind before it calls resources.
func configured(t *testing.T) tfprotov6.ProviderServer {
	t.Helper()
	p := server(t)
	schema, err := p.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	typ := schema.Provider.ValueType()
	empty, err := tfprotov6.RawState{JSON: []byte("{}")}.Unmarshal(typ)
	if err != nil {
		t.Fatal(err)
	}
	value, err := tfprotov6.NewDynamicValue(typ, empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{Config: &value}); err != nil {
		t.Fatal(err)
	}
	return p
}
