package turn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// holderEnv makes this program a process that takes its turn and keeps it.
const holderEnv = "TURN_HOLDER"

func TestMain(m *testing.M) {
	if file := os.Getenv(holderEnv); file != "" {
		if _, err := Wait(context.Background(), file, 1); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("mine")
		time.Sleep(time.Hour) // the test kills it
	}
	os.Exit(m.Run())
}

// waiting starts to wait, and returns when the ticket is drawn.
func waiting(t *testing.T, file string, places int) <-chan *Turn {
	t.Helper()
	before := drawn(t, file)
	c := make(chan *Turn, 1)
	go func() {
		turn, err := Wait(t.Context(), file, places)
		if err == nil {
			c <- turn
		}
	}()
	require.Eventually(t, func() bool { return drawn(t, file) > before }, time.Minute, time.Millisecond)
	return c
}

func drawn(t *testing.T, file string) byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || len(b) == 0 {
		return 0
	}
	require.NoError(t, err)
	return b[0]
}

func TestFirstComeFirstServed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	held, err := Wait(t.Context(), file, 1)
	require.NoError(t, err)
	var waiters []<-chan *Turn
	for range 20 {
		waiters = append(waiters, waiting(t, file, 1))
	}
	held.End()
	for i, w := range waiters {
		turn := <-w
		require.Positive(t, turn.Waited())
		for _, later := range waiters[i+1:] {
			require.Empty(t, later, "nobody overtakes")
		}
		turn.End()
	}
}

func TestSoManyAtATime(t *testing.T) {
	const places = 3
	file := filepath.Join(t.TempDir(), "queue")
	var mu sync.Mutex
	var now, most int
	var once sync.Once
	all := make(chan struct{}) // closed when as many as may be are there
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			turn, err := Wait(t.Context(), file, places)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			now++
			if most = max(most, now); now == places {
				once.Do(func() { close(all) })
			}
			mu.Unlock()
			<-all
			time.Sleep(5 * time.Millisecond) // others could come in
			mu.Lock()
			now--
			mu.Unlock()
			turn.End()
		})
	}
	wg.Wait()
	require.Equal(t, places, most)
}

func TestOneThatGivesUpIsPassedOver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	held, err := Wait(t.Context(), file, 1)
	require.NoError(t, err)
	cause := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := Wait(ctx, file, 1)
		gaveUp <- err
	}()
	require.Eventually(t, func() bool { return drawn(t, file) == 2 }, time.Minute, time.Millisecond)
	next := waiting(t, file, 1)
	cancel(cause)
	require.ErrorIs(t, <-gaveUp, cause)
	held.End()
	(<-next).End()
}

func TestKilledHolderLosesItsPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	self, err := os.Executable()
	require.NoError(t, err)
	var holders []*exec.Cmd
	for i := range 2 { // the second waits for the first
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), holderEnv+"="+file)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		if i == 0 {
			require.True(t, bufio.NewScanner(out).Scan())
		}
		holders = append(holders, cmd)
	}
	require.Eventually(t, func() bool { return drawn(t, file) == 2 }, time.Minute, time.Millisecond)
	mine := waiting(t, file, 1)
	for _, h := range slices.Backward(holders) {
		require.Empty(t, mine)
		require.NoError(t, h.Process.Kill())
		_ = h.Wait()
	}
	(<-mine).End()
}

func TestPlaceIsHeldByACopyToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	held, err := Wait(t.Context(), file, 1)
	require.NoError(t, err)
	keeper := exec.CommandContext(t.Context(), "sleep", "1000")
	keeper.ExtraFiles = []*os.File{held.File()}
	require.NoError(t, keeper.Start())
	held.End()
	next := waiting(t, file, 1)
	require.Empty(t, next)
	require.NoError(t, keeper.Process.Kill())
	_ = keeper.Wait()
	(<-next).End()
}

func BenchmarkNobodyElse(b *testing.B) {
	file := filepath.Join(b.TempDir(), "queue")
	for b.Loop() {
		turn, err := Wait(b.Context(), file, 2)
		if err != nil {
			b.Fatal(err)
		}
		turn.End()
	}
}
