package criu_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// The logs in testdata/logs are shortened ones of real runs; the table says what a user is to be told.
func TestDiagnoseLogs(t *testing.T) {
	for _, test := range []struct{ log, line, meaning, remedy string }{
		{"dump-io-uring", "Unknown shit 600 (anon_inode:[io_uring])", "io_uring", "UV_USE_IO_URING"},
		{"dump-ghost", "Can't dump ghost file /dev/shm/.com.google.Chrome.U6lkKv of 4198400 size, increase limit", "/dev/shm/.com.google.Chrome.U6lkKv of 4198400 bytes", "ghost_limit"},
		{"restore-bad-size", "File tmp/openair.msc.4.log has bad size 252 (expect 253)", "/tmp/openair.msc.4.log has 252 bytes here and had 253", "same content"},
		{"restore-pid-taken", "Can't fork for 12: File exists", "process id 12 is taken", "--pid=host"},
		{"restore-empty-image", "Unexpected EOF on (empty-image)", "incomplete or damaged", "criu-docker verify"},
		{"dump-io-uring-fd", "send_fds failed (-22)", "io_uring", "io_method = worker"},
		{"dump-inotify", "Can't dump that handle", "inotify", "has a name"},
		{"dump-shared-exec", "POKEDATA failed: Input/output error", "executable shared memory", "opcache.jit_buffer_size=0"},
		{"dump-mqueue", "Can't lookup mount=304 for fd=3 path=/q", "POSIX message queue (/q)", "after the start only"},
		{"dump-no-sys-resource", "Can't get rlimit 0: Operation not permitted", "CAP_SYS_RESOURCE", "criu-docker doctor"},
		{"dump-unix-stream", "Dangling connection 500527", "stream socket", "ext_unix_sk does not help"},
		{"dump-unix-dgram", "Unix socket 502215 without peer 496946", "datagram socket", "on the host's network only"},
		{"restore-unix-stream", "Peer 497833 unresolved for 525431", "stream socket", "ext_unix_sk does not help"},
		{"restore-unix-dgram", "Can't connect 527461 socket", "No such file or directory", "same path"},
		{"restore-sealed-memfd", "Cannot apply seals on memfd: Device or resource busy", "sealed memory file", "turn off what makes it"},
		{"restore-udp-client", "Can't bind inet socket (id 5): Cannot assign requested address", "a client with a connected UDP socket", "after the start only"},
		{"restore-udp-mapped", "Can't connect inet socket back: Network is unreachable", "connected UDP socket", "::ffff:"},
		{"restore-reserve", "Unable to map ANON_VMA: Cannot allocate memory", "reserves more address space", "memory = eager"},
		{"restore-reserve-lazy", "Unable to reserve memory (0xfffffffffffffff4)", "reserves more address space", "memory = eager"},
		{"restore-tmpfs", "Can't restore tmpfs content", "tmpfs", "tar"},
	} {
		t.Run(test.log, func(t *testing.T) {
			log, err := os.Open(filepath.Join("testdata", "logs", test.log+".log"))
			require.NoError(t, err)
			defer log.Close()
			got := criu.Diagnose(log)
			require.NotNil(t, got)
			require.Contains(t, got.Line, test.line)
			require.True(t, strings.HasPrefix(got.Line, "Error ("), got.Line)
			require.Contains(t, got.Meaning, test.meaning)
			require.Contains(t, got.Remedy, test.remedy)
		})
	}
}

func TestDiagnoseMessages(t *testing.T) {
	for message, want := range map[string]string{
		`Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.`:                   "the app holds file locks: set file_locks = true",
		`Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.`:                                  `open TCP connection: set tcp = "close"`,
		`Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.`:                                   "let it connect after the start only; for a datagram socket",
		`Error (criu/files-reg.c:1122): Can't create link remap for /var/lib/app/state. Use link-remap option.`:                             "set link_remap = true",
		`Error (criu/files-reg.c:1159): Can't link remap to var/lib/app/state: Operation not permitted`:                                     "where no further link can be made to it",
		`Error (criu/files-reg.c:2294): File usr/bin/ruby has bad mode 0100644 (expect 0100755)`:                                            "mode 0100644 here and had 0100755",
		`Error (criu/files-reg.c:2353): Can't open file data/db.sqlite on restore: No such file or directory`:                               "/data/db.sqlite, which the app had open, is missing",
		`Error (criu/mount.c:3141): mnt: No mapping for 1224:/etc/app mountpoint`:                                                           "a mount at /etc/app that this container lacks",
		`Error (criu/arch/x86/cpu.c:274): cpu: CPU xsave size mismatch (2696/832)`:                                                          "2696 bytes of vector registers, this one 832",
		`Error (criu/files-ext.c:98): Can't dump file 17 of that type [20660] (chr /dev/dri/card0)`:                                         "descriptor 17 is of a kind that CRIU can't freeze (chr /dev/dri/card0)",
		`Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 12): Cannot assign requested address`:                                "0.0.0.0",
		`Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 12): Address already in use`:                                         "is taken in this network namespace",
		`Error (criu/image.c:563): Magic doesn't match for files.img`:                                                                       "image files.img is damaged",
		`Error (criu/pie/restorer.c:196): can't write lsm profile -2`:                                                                       "AppArmor",
		`Error (criu/tty.c:1010): tty: Don't have tty to inherit session from, aborting`:                                                    "without a terminal",
		`Error (criu/util.c:642): execvp("iptables-restore", ...) failed: No such file or directory`:                                        "install iptables",
		`Error (criu/util.c:642): execvp("tar", ...) failed: No such file or directory`:                                                     "the program tar is missing",
		`Error (criu/mount.c:4048): mnt: Nested mount namespaces are not supported without nested pid namespace.`:                           "namespace of its own",
		`Error (criu/cgroup.c:1800): cg: Cgroup dir cpu/docker/0123 doesn't exist`:                                                          "cpu/docker/0123",
		`Error (criu/cr-restore.c:1262): 4711 killed by signal 9: Killed`:                                                                   "memory limit",
		`Error (criu/net.c:3009): net: Unable to dump more than one netns if the --emptyns is set`:                                          "namespace of its own",
		`Error (criu/image.c:94): Need to set the --tcp-close options.`:                                                                     "options that the snapshot was built with",
		`Error (criu/seize.c:635): Unable to freeze cgroup /sys/fs/cgroup/freezer/docker/01 (100 x 100ms attempts, timeout: 10s)`:           "state D",
		`Error (criu/files-reg.c:1796): Open files on overmounted mounts are not supported yet; mount=81 fd=3 path=/var/log/syslog`:         "/var/log/syslog",
		`Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 4f2e`:                                                           "multipathtcp=0",
		`Error (criu/mount.c:1187): mnt: Mount 812:(null) is autodetected external mount. Try "--external mnt[:m]"`:                         "a mount that is out of the app's sight",
		`Error (criu/protobuf.c:157): Can't write 10260 bytes: No space left on device`:                                                     "--build-dir",
		`Error (criu/sk-unix.c:881): unix: Can't dump half of stream unix connection. name: (null); peer name: /run/dbus/system_bus_socket`: "stream socket /run/dbus/system_bus_socket",
	} {
		got := criu.Diagnose(strings.NewReader("(00.000064) Version: 4.2\n(00.015123)      1: " + message + "\n"))
		require.NotNil(t, got, message)
		require.Equal(t, message, got.Line)
		require.Contains(t, got.Error(), want)
		require.NotContains(t, got.Error(), "${", message)
	}
}

func TestDiagnoseSuccess(t *testing.T) {
	log, err := os.Open(filepath.Join("testdata", "logs", "dump-good.log"))
	require.NoError(t, err)
	defer log.Close()
	require.Nil(t, criu.Diagnose(log), "CRIU logs errors that it does without")
}

func TestDiagnoseFirstError(t *testing.T) {
	require.Nil(t, criu.Diagnose(strings.NewReader("")))
	require.Nil(t, criu.Diagnose(strings.NewReader("(00.000064) Version: 4.2\n(00.1) Warn  (criu/kerndat.c:1285): Can't keep kdat cache on non-tempfs\n(00.2) Dumping finished successfully\n")))
	require.Nil(t, criu.Diagnose(strings.NewReader("Error (criu/cr-check.c:1033): cgroupns not supported. This is not fatal.\n")))
	require.Nil(t, criu.Diagnose(strings.NewReader("the app said Error (oops:1): not CRIU's\n")))

	got := criu.Diagnose(strings.NewReader("(00.1) Error (criu/a.c:1): never seen before\n(00.2) Error (criu/cr-dump.c:2128): Dumping FAILED.\n"))
	require.Equal(t, &criu.Failure{Line: "Error (criu/a.c:1): never seen before"}, got)

	got = criu.Diagnose(strings.NewReader("Error (criu/util.c:654): exited, status=2\nError (criu/net.c:3332): net: Locking network failed: iptables-restore returned -1. This may be…"))
	require.Contains(t, got.Line, "Locking network failed", "the line that says why wins, and the last line may lack its end")

	got = criu.Diagnose(strings.NewReader("Error (criu/b.c:1): odd\nError (criu/cr-restore.c:1262): 7 killed by signal 9: Killed\n"))
	require.Equal(t, "Error (criu/b.c:1): odd", got.Line, "a symptom never hides the first error")

	got = criu.Diagnose(strings.NewReader("(12.345678) pie: 1788: Error (criu/pie/restorer.c:546): seccomp: SECCOMP_SET_MODE_FILTER returned -22 on tid 8\n"))
	require.Contains(t, got.Meaning, "-22")

	broken := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("E")))
	require.Nil(t, criu.Diagnose(broken))
}

func TestFailureIsAnError(t *testing.T) {
	var err error = criu.Diagnose(strings.NewReader("Error (criu/a.c:1): x\n"))
	var failure *criu.Failure
	require.True(t, errors.As(err, &failure))
	require.Equal(t, "CRIU: Error (criu/a.c:1): x", err.Error())
}

// TestPassingFailures: what is worth another freeze, and what is not.
func TestPassingFailures(t *testing.T) {
	for line, passing := range map[string]bool{
		"Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 28d32a":                      true,
		"Error (criu/sk-unix.c:494): unix: In-flight connection on non-listening socket 7":           true,
		"Error (criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x2b7b4f":    true,
		"Error (criu/sk-unix.c:525): unix: Found a closed in-flight socket to 0x2b7b4f":              true,
		"Error (criu/sk-unix.c:351): unix: Unix socket 2722308 not found":                            true,
		"Error (criu/seize.c:335): zombie 4711 (comm cron) found while seizing":                      true,
		"Error (criu/sk-netlink.c:77): netlink: The socket has data to read":                         true,
		"Error (criu/files-ext.c:96): Can't dump file 3 of that type [20666] (chr 10:229 /dev/fuse)": false,
		"Error (criu/sk-unix.c:466): unix: Dangling connection 7":                                    false,
		"Error (criu/a.c:1): never seen before":                                                      false,
	} {
		f := criu.Diagnose(strings.NewReader(line + "\n"))
		require.NotNil(t, f, line)
		require.Equal(t, passing, f.Passing, line)
	}
}
