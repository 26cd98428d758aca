package engine

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/client"
)

// TestFreezeOfABusyMachine: a container that runc could not stop is tried again; everything else is told at once.
func TestFreezeOfABusyMachine(t *testing.T) {
	const busy = "OCI runtime pause failed: unable to freeze"
	for name, tc := range map[string]struct {
		answers []string // messages; "" is success
		want    string
		asked   int
	}{
		"at once":   {[]string{""}, "", 1},
		"on retry":  {[]string{busy, busy, ""}, "", 3},
		"never":     {[]string{busy, busy, busy, busy, busy, busy, busy, busy}, "unable to freeze", freezeAttempts},
		"for good":  {[]string{"criu failed: type NOTIFY errno 0"}, "criu failed", 1},
		"then more": {[]string{busy, "criu failed"}, "criu failed", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				message := tc.answers[min(asked, len(tc.answers)-1)]
				asked++
				if message == "" {
					w.WriteHeader(http.StatusCreated)
					return
				}
				http.Error(w, `{"message": "`+message+`"}`, http.StatusInternalServerError)
			}))
			defer s.Close()
			c, err := client.NewClientWithOpts(client.WithHost("tcp://"+s.Listener.Addr().String()), client.WithVersion("1.47"))
			if err != nil {
				t.Fatal(err)
			}
			err = (&Engine{Client: c}).Freeze(t.Context(), "0123456789ab")
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if asked != tc.asked {
				t.Errorf("asked %d times, want %d", asked, tc.asked)
			}
		})
	}
}
