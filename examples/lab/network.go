package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	maxNodes   = 9
	bridgeName = "lab0"
	nodeLink   = "eth0"
)

// index is the number at the end of the node's name, which gives its address.
func (n *Node) index() int {
	i, err := strconv.Atoi(strings.TrimPrefix(n.Name, "node"))
	if err != nil {
		return 0
	}
	return i
}

// nodeNames matches what nodeName returns.
var nodeNames = regexp.MustCompile(`^node[0-9]+$`)

func nodeName(index int) string { return fmt.Sprintf("node%d", index) }

func nodeAddress(index int) string { return fmt.Sprintf("10.211.0.%d", index) }

// hosts are the lines of /etc/hosts that name the nodes, those included that don't exist yet.
func hosts() string {
	var b strings.Builder
	for i := 1; i <= maxNodes; i++ {
		fmt.Fprintf(&b, "%s %s\n", nodeAddress(i), nodeName(i))
	}
	return b.String()
}

// switchCommand does nothing: its process is what keeps the network namespace alive that holds the lab's bridge, so
// that nothing of the lab's network is in the host's namespace and all of it goes with the process.
func switchCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "switch",
		Short:  "Hold the network between the nodes (started by up)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			<-ctx.Done()
			return nil
		},
	}
}

func (l *Lab) switchFile() string { return filepath.Join(l.Dir, "switch.json") }

// switchPID returns the pid of the switch, or 0 if it doesn't run.
func (l *Lab) switchPID() int { return living(l.switchFile()).PID }

// ensureSwitch starts the switch, with its bridge, if it doesn't run.
func (l *Lab) ensureSwitch() (int, error) {
	if pid := l.switchPID(); pid != 0 {
		return pid, nil
	}
	program := filepath.Join(l.Dir, "lab-switch")
	if err := copyProgram("/proc/self/exe", program); err != nil {
		return 0, err
	}
	cmd := exec.Command(program, "switch")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the lab's switch: %w", err)
	}
	go func() { _ = cmd.Wait() }() // ends when it is told to, long after this process
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("start the lab's switch: %w", err)
	}
	if err := writeJSON(l.switchFile(), id); err != nil {
		return 0, err
	}
	handle, closeHandle, err := netlinkAt(id.PID)
	if err != nil {
		return 0, err
	}
	defer closeHandle()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := errors.Join(handle.LinkAdd(bridge), handle.LinkSetUp(bridge)); err != nil {
		return 0, fmt.Errorf("bridge between the nodes: %w", err)
	}
	return id.PID, nil
}

func (l *Lab) stopSwitch(ctx context.Context) error {
	if s := living(l.switchFile()); s.PID != 0 {
		if err := endProcess(ctx, s, unix.SIGTERM, 2*time.Second); err != nil {
			return fmt.Errorf("stop the lab's switch: %w", err)
		}
	}
	for _, f := range []string{l.switchFile(), filepath.Join(l.Dir, "lab-switch")} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("stop the lab's switch: %w", err)
		}
	}
	return nil
}

// connect gives the node its link to the switch and its address, if it has none.
func (n *Node) connect() error {
	switchPID, err := n.lab.ensureSwitch()
	if err != nil {
		return err
	}
	inNode, closeNode, err := netlinkAt(n.initPID())
	if err != nil {
		return err
	}
	defer closeNode()
	if _, err := inNode.LinkByName(nodeLink); err == nil {
		return nil // a link lives exactly as long as both of its ends
	}
	inSwitch, closeSwitch, err := netlinkAt(switchPID)
	if err != nil {
		return err
	}
	defer closeSwitch()
	bridge, err := inSwitch.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("bridge between the nodes: %w", err)
	}
	// The kernel takes the namespace of a node that has just ended apart when it gets round to it, and the link with it.
	if old, err := inSwitch.LinkByName(n.Name); err == nil {
		if err := inSwitch.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("disconnect the %s that was before from the switch: %w", n.Name, err)
		}
	}
	port := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: n.Name, MasterIndex: bridge.Attrs().Index},
		PeerName:      nodeLink,
		PeerNamespace: netlink.NsPid(n.initPID()),
	}
	if err := errors.Join(inSwitch.LinkAdd(port), inSwitch.LinkSetUp(port)); err != nil {
		return fmt.Errorf("connect %s to the switch: %w", n.Name, err)
	}
	link, err := inNode.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", nodeLink, n.Name, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(nodeAddress(n.index())), Mask: net.CIDRMask(24, 32)}}
	if err := errors.Join(inNode.AddrAdd(link, address), inNode.LinkSetUp(link)); err != nil {
		return fmt.Errorf("address of %s: %w", n.Name, err)
	}
	return nil
}

// netlinkAt opens a netlink socket in the network namespace of a process.
func netlinkAt(pid int) (*netlink.Handle, func(), error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, nil, fmt.Errorf("netlink of process %d: %w", pid, err)
	}
	return handle, handle.Close, nil
}

// living reads an identity from a file and returns it if that very process still runs; otherwise its pid is 0.
func living(path string) identity {
	b, err := os.ReadFile(path)
	if err != nil {
		return identity{}
	}
	var id identity
	if json.Unmarshal(b, &id) != nil {
		return identity{}
	}
	if now, err := identify(id.PID); err != nil || now != id {
		return identity{}
	}
	return id
}
