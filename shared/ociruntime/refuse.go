package ociruntime

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// refusal keeps connections away from the listeners of a network namespace: they are refused as if nothing listened.
// It ends with the process that has it, at the latest.
type refusal struct{ link *link.NetNsLink }

// refuse begins to refuse connections to the clone, if it has a network namespace of its own; in another one, there is
// nothing to wait for, and others live there. It returns nil then.
//
// While the engine wires the network, a clone whose listeners are restored already would take connections, and lose them:
// the engine's last step is to have the kernel forget all connections of this address, and the answers would not be
// translated back. The app would not have been there yet in a cold boot, and so it isn't here.
//
// Hooks talk to the app while it lasts, and the app may talk to itself. So with hooks, what comes over the loopback device is let
// through.
func (c container) refuse(hooks bool) (*refusal, error) {
	netns, err := os.Open(c.netnsFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer netns.Close()
	if ours, err := isOurNetns(netns); err != nil || ours {
		return nil, err
	}
	// The kernel asks a program of this type before it looks for a listener, or an unconnected UDP socket, and takes the
	// answer that there is none (Documentation/bpf/prog_sk_lookup.rst; Linux 5.9).
	instructions := asm.Instructions{asm.Mov.Imm(asm.R0, skDrop), asm.Return()}
	if hooks {
		instructions = asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, ingressIfindex, asm.Word),
			asm.Mov.Imm(asm.R0, skPass),
			asm.JEq.Imm(asm.R2, loopback, "done"),
			asm.Mov.Imm(asm.R0, skDrop),
			asm.Return().WithSymbol("done"),
		}
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "refuse",
		Type:         ebpf.SkLookup,
		AttachType:   ebpf.AttachSkLookup,
		License:      "MIT",
		Instructions: instructions,
	})
	if err != nil {
		return nil, fmt.Errorf("refuse connections: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachNetNs(int(netns.Fd()), prog)
	if err != nil {
		return nil, fmt.Errorf("refuse connections: %w", err)
	}
	return &refusal{l}, nil
}

const (
	// enum sk_action of linux/bpf.h
	skDrop = 0
	skPass = 1
	// ingressIfindex is a member of struct bpf_sk_lookup (linux/bpf.h, Linux 5.17).
	ingressIfindex = 64
	// loopback is the index of lo in every network namespace.
	loopback = 1
)

// end lets connections through.
func (r *refusal) end() error {
	if r == nil {
		return nil
	}
	return r.link.Close()
}

// isOurNetns reports whether a network namespace is this process's own, as it is with host networking.
func isOurNetns(f *os.File) (bool, error) {
	theirs, err := f.Stat()
	if err != nil {
		return false, err
	}
	ours, err := os.Stat("/proc/self/ns/net")
	return err == nil && os.SameFile(theirs, ours), err
}
