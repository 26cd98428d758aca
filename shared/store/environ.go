package store

import (
	"os"
	"path/filepath"
	"strings"
)

// environ names the variables that decide how a store is reached (cloud.google.com/go/auth, net/http, crypto/x509).
var environ = []string{
	"STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_HOST", "CLOUDSDK_CONFIG", "HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// Environ returns those variables of this process, as NAME=value, that another process needs to open the same stores.
func Environ() []string {
	var list []string
	for _, name := range environ {
		if value, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// Address is the address of a store for a process in another directory.
func Address(s Store) string {
	if strings.Contains(s.URL(), "://") {
		return s.URL()
	}
	abs, err := filepath.Abs(s.URL())
	if err != nil { // without a working directory nothing relative can have been opened
		return s.URL()
	}
	return abs
}
