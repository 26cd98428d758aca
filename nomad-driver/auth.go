package main

import (
	"fmt"
	"os"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker/api/types/registry"
)

// dockerHub is the name under which configurations and helpers know Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// registryAuthFor returns the credentials for the registry of the task's image, encoded for the engine: the task's own,
// or what the operator's file or helper knows. It is empty if there are none.
func registryAuthFor(tc *taskConfig, s settings) (string, error) {
	var auth registry.AuthConfig
	var err error
	switch {
	case tc.Auth.Username != "" || tc.Auth.Password != "":
		auth = registry.AuthConfig{Username: tc.Auth.Username, Password: tc.Auth.Password, ServerAddress: tc.Auth.ServerAddress}
	case s.Auth.Config != "":
		auth, err = authFromFile(s.Auth.Config, tc.Image)
		if err == nil && auth == (registry.AuthConfig{}) && s.Auth.Helper != "" {
			auth, err = authFromHelper(s.Auth.Helper, tc.Image)
		}
	case s.Auth.Helper != "":
		auth, err = authFromHelper(s.Auth.Helper, tc.Image)
	}
	if err != nil || auth == (registry.AuthConfig{}) {
		return "", err
	}
	return registry.EncodeAuthConfig(auth)
}

func authFromFile(file, image string) (registry.AuthConfig, error) {
	f, err := os.Open(file)
	if err != nil {
		return registry.AuthConfig{}, fmt.Errorf("auth.config: %w", err)
	}
	defer f.Close()
	conf := configfile.New(file)
	if err := conf.LoadFromReader(f); err != nil {
		return registry.AuthConfig{}, fmt.Errorf("auth.config = %q: want a file like docker's config.json: %w", file, err)
	}
	server, err := registryOf(image)
	if err != nil {
		return registry.AuthConfig{}, err
	}
	a, err := conf.GetAuthConfig(server)
	if err != nil {
		return registry.AuthConfig{}, fmt.Errorf("auth.config = %q: %w", file, err)
	}
	return registry.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}, nil
}

func authFromHelper(helper, image string) (registry.AuthConfig, error) {
	server, err := registryOf(image)
	if err != nil {
		return registry.AuthConfig{}, err
	}
	creds, err := client.Get(client.NewShellProgramFunc("docker-credential-"+helper), server)
	if err != nil {
		return registry.AuthConfig{}, fmt.Errorf("auth.helper = %q: %w", helper, err)
	}
	if creds.Username == "<token>" { // the helpers' mark for an identity token
		return registry.AuthConfig{IdentityToken: creds.Secret, ServerAddress: creds.ServerURL}, nil
	}
	return registry.AuthConfig{Username: creds.Username, Password: creds.Secret, ServerAddress: creds.ServerURL}, nil
}

func registryOf(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image = %q: %w", image, err)
	}
	if domain := reference.Domain(named); domain != "docker.io" {
		return domain, nil
	}
	return dockerHub, nil
}
