// Command terraform-provider-criu is the Terraform provider `criu`: it boots container images, freezes the booted
// processes with CRIU and publishes them to a store, from which the Nomad driver and the command line start clones.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/criu-docker/criu-docker/shared/version"
)

//go:generate go tool -C tools tfplugindocs generate --provider-dir .. --provider-name criu --rendered-website-dir ../docs/provider

// address is where Terraform looks for the provider when a configuration asks for "criu-docker/criu".
const address = "registry.terraform.io/criu-docker/criu"

func main() {
	debug := flag.Bool("debug", false, "wait for a debugger: print TF_REATTACH_PROVIDERS and serve until interrupted")
	flag.Parse()

	opts := providerserver.ServeOpts{Address: address, Debug: *debug}
	if err := providerserver.Serve(context.Background(), newProvider(version.Get().Version), opts); err != nil {
		log.Fatal(err)
	}
}
