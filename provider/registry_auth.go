package main

import (
	"context"
	"fmt"
	"os"

	"github.com/distribution/reference"
	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/docker/api/types/registry"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// dockerHub is the name under which `docker login` notes Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// pullAuth returns the credentials for an image that has to be pulled, encoded for the engine; "" if there are none, or if
// the engine has the image: then no credential helper is bothered.
func pullAuth(ctx context.Context, eng *engine.Engine, image string) (string, error) {
	if _, err := eng.Client.ImageInspect(ctx, image); !engine.IsNotFound(err) {
		return "", nil // the next look for the image reports a failure
	}
	return registryAuth(image)
}

// registryAuth returns what `docker login` noted for an image's registry, in $DOCKER_CONFIG or ~/.docker, helpers included.
func registryAuth(image string) (string, error) {
	ref, err := reference.ParseAnyReference(image)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	named, ok := ref.(reference.Named)
	if !ok { // an id
		return "", nil
	}
	server := reference.Domain(named)
	if server == "docker.io" {
		server = dockerHub
	}
	file, err := dockerconfig.Load(os.Getenv(dockerconfig.EnvOverrideConfigDir))
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", server, err)
	}
	a, err := file.GetAuthConfig(server)
	if err != nil {
		return "", fmt.Errorf("credentials for %s, by %s: %w", server, file.Filename, err)
	}
	auth := registry.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if auth == (registry.AuthConfig{ServerAddress: a.ServerAddress}) {
		return "", nil
	}
	return registry.EncodeAuthConfig(auth)
}
