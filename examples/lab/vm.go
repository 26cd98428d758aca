package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A virtual machine is a node with a kernel of its own. Its lab program answers as that of a node with systemd does; the lab reaches it,
// Docker's socket and a shell by SSH, on a port of the loopback.

// vmPatience is how long a boot may take where there is no KVM and the machine is busy.
const vmPatience = 30 * time.Minute

// agentSockets are where the lab's program answers: in a directory that the host sees too, or in the machine itself.
const (
	sharedSocket = "/lab/init.sock"
	vmSocket     = "/run/lab.sock"
)

// newKey makes a key in dir, and returns the line that lets its owner in.
func newKey(dir string) (string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("key of the virtual machine: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "lab")
	if err != nil {
		return "", fmt.Errorf("key of the virtual machine: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return "", fmt.Errorf("key of the virtual machine: %w", err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("key of the virtual machine: %w", err)
	}
	return string(ssh.MarshalAuthorizedKey(line)), nil
}

// vmState is what is needed to reach a machine.
type vmState struct {
	Port int    `json:"port"`
	Key  string `json:"key"` // file
}

func (n *Node) vmFile() string { return filepath.Join(n.Dir, "vm.json") }

// startVM boots the machine, and returns when the lab's program in it answers.
func (n *Node) startVM(ctx context.Context, spec nodeSpec) error {
	if err := n.clean(); err != nil {
		return err
	}
	if err := n.prepare(spec); err != nil {
		return err
	}
	disk := filepath.Join(n.Dir, "disk")
	if _, err := os.Stat(disk); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", filepath.Join(spec.VM, "disk"), disk).CombinedOutput(); err != nil {
			return fmt.Errorf("disk of the virtual machine: %w: %s", err, out)
		}
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.Dir, "log", "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("node log: %w", err)
	}
	defer log.Close()
	// Linux changes its own code while it runs; QEMU's emulation on several threads sees halves of such a change, and the kernel panics.
	accelerator := "tcg,thread=single"
	if hasKVM() {
		accelerator = "kvm"
	}
	cmd := exec.Command("qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "6G",
		"-display", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio",
		"-kernel", filepath.Join(spec.VM, "vmlinuz"), "-initrd", filepath.Join(spec.VM, "initrd"),
		"-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=1 security=apparmor panic=-1",
		"-drive", "file="+disk+",format=raw,if=virtio,cache=unsafe", "-device", "virtio-rng-pci",
		"-netdev", fmt.Sprintf("user,id=n,restrict=on,net=10.211.0.0/24,host=10.211.0.254,hostfwd=tcp:127.0.0.1:%d-%s:22", port, nodeAddress(1)),
		"-device", "virtio-net-pci,netdev=n",
		"-virtfs", "local,path=/,mount_tag=host,security_model=none,multidevs=remap",
		"-virtfs", "local,path="+n.Dir+",mount_tag=lab,security_model=none")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the virtual machine: %w", err)
	}
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start the virtual machine: %w", err)
	}
	if err := errors.Join(writeJSON(n.initFile(), id), writeJSON(n.vmFile(), vmState{port, filepath.Join(spec.VM, "key")})); err != nil {
		return err
	}
	slog.Info("virtual machine boots", "node", n.Name, "accelerator", accelerator, "console", log.Name())
	return n.waitFor(ctx, died, vmPatience)
}

// hasKVM reports whether the processor can run guests. The device alone may be one that stands for nothing, in a container or a small
// virtual machine.
func hasKVM() bool {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && regexp.MustCompile(`(?m)^flags\s*:.* (vmx|svm)( |$)`).Match(info)
}

// freePort returns a port of the loopback that is free at this moment.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("port for the virtual machine: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// isVM reports whether the node is a virtual machine.
func (n *Node) isVM() bool {
	spec, err := readSpec(n.Dir)
	return err == nil && spec.VM != ""
}

// secureShell connects to the machine. Its host key is not known: it is at a port that QEMU holds, on the loopback.
func (n *Node) secureShell(ctx context.Context) (*ssh.Client, error) {
	var at vmState
	if err := readJSON(n.vmFile(), &at); err != nil {
		return nil, fmt.Errorf("node %s does not run (%s): bring it up with lab up", n.Name, n.Dir)
	}
	key, err := os.ReadFile(at.Key)
	if err != nil {
		return nil, fmt.Errorf("key of the virtual machine: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key of the virtual machine: %w", err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(at.Port))
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("virtual machine: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // QEMU accepts before anybody answers
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // see above
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("virtual machine: %w", errors.Join(err, ctx.Err()))
	}
	return ssh.NewClient(c, channels, requests), nil
}

// dialVM connects to a unix socket in the machine.
func (n *Node) dialVM(ctx context.Context, socket string) (net.Conn, error) {
	client, err := n.secureShell(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := client.Dial("unix", socket)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("%s of the virtual machine: %w", socket, err)
	}
	return tunnel{conn, client}, nil
}

// tunnel is a connection through a client that is there for nothing else.
type tunnel struct {
	net.Conn
	client *ssh.Client
}

func (t tunnel) Close() error { return errors.Join(t.Conn.Close(), t.client.Close()) }

// execVM runs a command in the machine, as exec does in other nodes; signals end it.
func (n *Node) execVM(ctx context.Context, argv, env []string, dir string, stdin io.Reader, stdout, stderr io.Writer) error {
	client, err := n.secureShell(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("virtual machine: %w", err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = stdin, stdout, stderr
	var exit *ssh.ExitError
	err = session.Run(shellLine(argv, env, dir))
	switch {
	case errors.As(err, &exit):
		return exitCode(exit.ExitStatus())
	case err != nil:
		return fmt.Errorf("node %s went away while the command ran: %w", n.Name, errors.Join(err, ctx.Err()))
	}
	return nil
}

// shellLine is a command for a shell. A program and a directory that are named by their path on the host are found below /host.
func shellLine(argv, env []string, dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `cd %s 2>/dev/null || cd /; p=%s; case $p in /*) [ -e "$p" ] || [ ! -e "%[3]s$p" ] || p="%[3]s$p" ;; esac; exec env -i`, quoted(hostRoot+dir), quoted(argv[0]), hostRoot)
	for _, kv := range env {
		b.WriteString(" " + quoted(kv))
	}
	b.WriteString(` "$p"`)
	for _, a := range argv[1:] {
		b.WriteString(" " + quoted(a))
	}
	return b.String()
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// inVM runs a command for the lab itself.
func (n *Node) inVM(ctx context.Context, argv ...string) error {
	var out strings.Builder
	err := n.execVM(ctx, argv, []string{"PATH=" + nodePath}, "/", strings.NewReader(""), &out, &out)
	if err != nil {
		return fmt.Errorf("%s in node %s: %w: %s", argv[0], n.Name, err, out.String())
	}
	return nil
}

// stopVM has the machine power itself off, and ends it when it doesn't.
func (n *Node) stopVM(ctx context.Context, process identity) error {
	asked, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := n.inVM(asked, "systemctl", "poweroff", "--no-block"); err != nil {
		slog.Warn("the virtual machine does not hear", "node", n.Name, "err", err)
	} else if gone(ctx, process, vmPatience/6) {
		return nil
	}
	return endProcess(ctx, process, unix.SIGTERM, 20*time.Second)
}

// gone waits until a process has ended.
func gone(ctx context.Context, process identity, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if now, err := identify(process.PID); err != nil || now != process {
			return true
		}
	}
	return false
}
