package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
)

// TestEngineThatHangs: an engine that hangs over one container is given up on; what takes its time is waited for.
func TestEngineThatHangs(t *testing.T) {
	end := make(chan struct{})
	asked := make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.47") })
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		<-end
	})
	mux.HandleFunc("/v1.47/containers/slow/json", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-end // the answer has begun: it may take as long as it likes
		_, _ = io.WriteString(w, `{"Id": "slow"}`)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	// Within this time the server above answers on a busy machine too.
	const limit = time.Second
	e, err := connect(t.Context(), "tcp://"+s.Listener.Addr().String(), limit)
	require.NoError(t, err)
	defer e.Close()

	_, err = e.Client.ContainerInspect(t.Context(), "hangs")
	require.ErrorIs(t, err, ErrHangs)
	_, err = e.Client.ContainerList(t.Context(), container.ListOptions{})
	require.ErrorIs(t, err, ErrHangs)
	require.ErrorContains(t, err, "GET /v1.47/containers/json took longer than 1s")
	<-asked
	<-asked

	started := make(chan error)
	go func() { started <- e.Start(t.Context(), "slow") }()
	<-asked
	inspected := make(chan error)
	go func() {
		_, err := e.Client.ContainerInspect(t.Context(), "slow")
		inspected <- err
	}()
	// Another call runs into its limit meanwhile, so the limit is over for these as well.
	_, err = e.Client.ContainerInspect(t.Context(), "hangs")
	require.ErrorIs(t, err, ErrHangs)
	close(end)
	require.NoError(t, <-started)
	require.NoError(t, <-inspected)
}
