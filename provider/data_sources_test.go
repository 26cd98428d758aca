package main

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
)

const (
	byRef = "data.criu_snapshot.by_ref"
	all   = "data.criu_snapshots.all"
)

func TestDataSources(t *testing.T) {
	s, img := directory(t), newImage(t)
	published := hcl(s, img.tag, `ports = ["80"]`)
	same := func(a, other, b string) statecheck.StateCheck {
		return statecheck.CompareValuePairs(web, attribute(a), other, attribute(b), compare.ValuesSame())
	}
	run(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: published + `
data "criu_snapshot" "by_ref" {
  ref        = criu_snapshot.web.ref
  depends_on = [criu_snapshot.web]
}

data "criu_snapshot" "by_image" {
  image_id   = criu_snapshot.web.image_id
  depends_on = [criu_snapshot.web]
}

data "criu_snapshots" "all" {
  depends_on = [criu_snapshot.web]
}

data "criu_snapshots" "of_another_image" {
  image_id   = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  depends_on = [criu_snapshot.web]
}

output "parsed" {
  value = provider::criu::parse_ref(criu_snapshot.web.ref)
}
`,
		ConfigStateChecks: []statecheck.StateCheck{
			same("digest", byRef, "digest"),
			same("image_id", byRef, "image_id"),
			same("image", byRef, "image"),
			same("architecture", byRef, "architecture"),
			same("created_at", byRef, "created_at"),
			same("sizes", byRef, "sizes"),
			same("timings", byRef, "timings"),
			same("random_generators", byRef, "random_generators"),
			same("risks", byRef, "risks"),
			same("ref", "data.criu_snapshot.by_image", "ref"),
			statecheck.ExpectKnownValue(byRef, attribute("args").AtSliceIndex(0), knownvalue.StringExact("/bin/busybox")),
			statecheck.ExpectKnownValue(byRef, attribute("ports").AtSliceIndex(0), knownvalue.StringExact("80/tcp")),
			statecheck.ExpectKnownValue(byRef, attribute("built_on").AtMapKey("criu"), matches(`^\d+\.\d+`)),
			statecheck.ExpectKnownValue(all, attribute("snapshots"), knownvalue.ListSizeExact(1)),
			statecheck.CompareValuePairs(web, attribute("ref"), all, attribute("snapshots").AtSliceIndex(0).AtMapKey("ref"), compare.ValuesSame()),
			statecheck.CompareValuePairs(web, attribute("digest"), all, attribute("snapshots").AtSliceIndex(0).AtMapKey("digest"), compare.ValuesSame()),
			statecheck.ExpectKnownValue("data.criu_snapshots.of_another_image", attribute("snapshots"), knownvalue.ListSizeExact(0)),
			statecheck.ExpectKnownOutputValue("parsed", knownvalue.ObjectExact(map[string]knownvalue.Check{
				"image_id":     knownvalue.StringExact(img.id(t)),
				"fingerprint":  matches(`^[0-9a-f]{16}$`),
				"architecture": knownvalue.StringExact("amd64"),
			})),
		},
	}}})
}

func TestDataSourceFindsNoneOrSeveral(t *testing.T) {
	s, img := directory(t), newImage(t)
	look := func(image string) string {
		return fmt.Sprintf(`
data "criu_snapshot" "by_image" {
  image_id   = %s
  depends_on = [criu_snapshot.web, criu_snapshot.other]
}
`, image)
	}
	published := hcl(s, img.tag, "") + `
resource "criu_snapshot" "other" {
  image   = criu_snapshot.web.image
  command = ["httpd", "-f", "-p", "8080", "-h", "/www"]
  ready   = { tcp = { port = 8080 } }
}
`
	run(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: `output "x" { value = provider::criu::parse_ref("web") }`, ExpectError: says(`want IMAGEHEX/FINGERPRINT/ARCH`)},
		{Config: published},
		{Config: published + look("criu_snapshot.web.image_id"), ExpectError: says(`has several snapshots`)},
		{Config: published + look(`"sha256:0000000000000000000000000000000000000000000000000000000000000000"`), ExpectError: says(`no snapshot of image`)},
	}})
}

// TestDataSourceByNothing: the error names everything that could be set.
func TestDataSourceByNothing(t *testing.T) {
	for _, body := range []string{"", `ref = "0000000000000000000000000000000000000000000000000000000000000000/0000000000000000/amd64"
image_id = "sha256:0000000000000000000000000000000000000000000000000000000000000000"`} {
		run(t, resource.TestCase{Steps: []resource.TestStep{{
			Config:      "data \"criu_snapshot\" \"x\" {\n" + body + "\n}",
			PlanOnly:    true,
			ExpectError: says(`Exactly one of these attributes must be configured: \[ref,image_id\]`),
		}}})
	}
}
